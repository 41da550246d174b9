#!/bin/sh
# history.sh CONTENT OUT OLD NEW RELEASE1 RELEASE2: gives a content repository a server.
#
# CONTENT   a repository with a linear history of universal/
# OUT       the repository to be made: the same content commit for commit, and laid over it the files
#           of the directory RELEASE1 up to just before NEW, and of RELEASE2 from NEW
# Tags v1.0.0 and v2.0.0 mark the commits that stand for OLD and NEW; main is v2.0.0.
set -eu
content=$1 out=$2 old=$3 new=$4 release1=$5 release2=$6

git init -q -b main "$out"
cd "$out"
git config core.autocrlf false
git config user.name "A Maintainer"
git config user.email maintainer@example.invalid
git config gc.auto 0
git fetch -q --no-tags "$content" '+refs/heads/*:refs/content/*'

out=$PWD
index=$out/.git/scratch-index

# Writes a directory's files to the object store and prints them as git update-index reads them.
entries_of() {
    rm -f "$index"
    (cd "$1" && GIT_DIR=$out/.git GIT_WORK_TREE=$1 GIT_INDEX_FILE=$index git add -A -f .)
    GIT_INDEX_FILE=$index git ls-files -s
}
release1_entries=$(entries_of "$release1")
release2_entries=$(entries_of "$release2")
export GIT_INDEX_FILE="$index"

parent=
for commit in $(git rev-list --reverse "$new"); do
    entries=$release1_entries
    case $commit in "$new"*) entries=$release2_entries ;; esac
    git read-tree "$commit"
    printf '%s\n' "$entries" | git update-index --index-info
    date=$(git log -1 --format=%aI "$commit")
    parent=$(git log -1 --format=%s "$commit" |
        GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date \
            git commit-tree ${parent:+-p "$parent"} "$(git write-tree)")
    case $commit in
        "$old"*) git tag v1.0.0 "$parent" ;;
        "$new"*) git tag v2.0.0 "$parent" ;;
    esac
done
unset GIT_INDEX_FILE
rm -f "$index" .git/FETCH_HEAD
git for-each-ref --format="delete %(refname)" refs/content/ | git update-ref --stdin
git update-ref refs/heads/main "$parent"
git reset -q --hard main
git repack -q -a -d
