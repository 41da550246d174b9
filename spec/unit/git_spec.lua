local git = require("praxlua.git")
local helper = require("spec.support.helper")
local repository = require("spec.support.repository")

local function tree_of(directory)
  local list = {}
  for _, entry in ipairs(assert(require("praxlua.core").tree.list(directory, { hash = true }))) do
    list[#list + 1] = entry.path .. ":" .. tostring(entry.sha256) .. ":" .. entry.mtime
  end
  return table.concat(list, "\n")
end

describe("git", function()
  after_each(helper.clean)

  it("tells a work tree from any other directory", function()
    local source = repository.source()
    assert.is_string(git.toplevel(source .. "/universal"))
    for _, directory in ipairs({ helper.tempdir(), source .. "/.git" }) do
      local root, message, code = git.toplevel(directory)
      assert.is_nil(root)
      assert.equal("ENOTREPO", code)
      assert.matches("not a git work tree", message)
    end
  end)

  it("knows root, commit and branch", function()
    local source, commit = repository.source()
    local root = require("praxlua.core").file.realpath(source)
    assert.equal(root, git.toplevel(source .. "/mcp_server"))
    assert.same({ commit = commit, is_shallow = false }, git.tip(source))
    assert.equal("main", git.branch(source))
    repository.git(source, "checkout", "-q", "--detach")
    local branch, _, code = git.branch(source)
    assert.is_nil(branch)
    assert.equal("EDETACHED", code)
  end)

  it("says that a repository has no commit", function()
    local directory = helper.tempdir()
    repository.git(directory, "init", "-q")
    local commit, message, code = git.tip(directory)
    assert.is_nil(commit)
    assert.equal("ENOCOMMIT", code)
    assert.matches("commit", message)
  end)

  it("reports changed, staged and untracked files with odd names", function()
    local source = repository.source()
    assert.same({}, git.status(source))
    helper.write(source .. "/VERSION.txt", "2.0.0\n")
    helper.write(source .. "/a b\n\"c\".md", "new\n")
    local entries = assert(git.status(source))
    table.sort(entries, function(a, b) return a.path < b.path end)
    assert.same({ { code = " M", path = "VERSION.txt" }, { code = "??", path = "a b\n\"c\".md" } },
      entries)
  end)

  it("lists tracked files with their modes", function()
    local source = repository.source({ ["scripts/run.sh"] = "#!/bin/sh\n" })
    repository.sh("chmod", "+x", source .. "/scripts/run.sh")
    repository.sh("ln", "-s", "run.sh", source .. "/scripts/link")
    local commit = repository.commit(source, {})
    local files = assert(git.files(source, nil, { "scripts" }))
    assert.same({ "scripts/link", "scripts/run.sh" }, { files[1].path, files[2].path })
    assert.same({ "120000", "100755" }, { files[1].mode, files[2].mode })
    assert.same(files, git.files(source, commit, { "scripts" }))
    assert.equal("run.sh", git.blob(source, files[1].oid))
    assert.not_equal(git.key("100644", files[1].oid), git.key("120000", files[1].oid))
  end)

  it("finds every version of every file, also of removed ones and side branches", function()
    local source, first = repository.source()
    local path = "universal/standards/testing/pyramid.md"
    repository.git(source, "checkout", "-q", "-b", "side")
    repository.commit(source, { [path] = "pyramid side\n" })
    repository.git(source, "checkout", "-q", "main")
    repository.commit(source, { [path] = "pyramid 2\n" })
    repository.git(source, "merge", "-q", "-s", "ours", "-m", "keep ours", "side")
    repository.commit(source, { [path] = false })
    local versions = assert(git.history(source, { "universal" }))[path]
    local hash = require("praxlua.core").hash
    for _, text in ipairs({ "pyramid 1\n", "pyramid side\n", "pyramid 2\n" }) do
      assert.is_true(versions["file:" .. hash.git_blob_data(text)], text)
    end
    local commits = assert(git.log(source, { "universal" }, { first_parent = true }))
    assert.equal(3, #commits)
    assert.equal(first, commits[3].commit)
    assert.matches("^%d%d%d%d%-%d%d%-%d%d$", git.dates(source, { "universal" })[path])
  end)

  it("answers about commits, and takes no names of branches or options for them", function()
    local source, first = repository.source()
    local second = repository.commit(source, { ["VERSION.txt"] = "1.1.0\n" })
    assert.equal(first, git.commit_exists(source, first:sub(1, 8)))
    assert.is_nil(git.commit_exists(source, ("0"):rep(40)))
    assert.is_nil(git.commit_exists(source, "main"))
    assert.is_nil(git.commit_exists(source, "--all"))
    assert.is_true(git.is_ancestor(source, first, second))
    assert.is_false(git.is_ancestor(source, second, first))
    local copy = helper.tempdir() .. "/copy"
    repository.git(source, "clone", "-q", "--depth", "1", "file://" .. source, copy)
    assert.same({ commit = second, is_shallow = true }, git.tip(copy))
  end)

  it("says of a partial clone that it is one", function()
    local source = repository.source()
    local old = repository.git(source, "rev-parse", "HEAD:VERSION.txt")
    repository.commit(source, { ["VERSION.txt"] = "1.1.0\n" })
    repository.git(source, "config", "uploadpack.allowFilter", "true")
    local copy = helper.tempdir() .. "/copy"
    repository.git(source, "clone", "-q", "--filter=blob:none", "file://" .. source, copy)
    for _, read in ipairs({ git.blob, function(...) return git.blobs((...), { old }) end }) do
      local message = helper.fails("EPARTIAL", read(copy, old))
      assert.matches("use a clone made without %-%-filter$", message)
    end
  end)

  it("finds files that git was told not to look at", function()
    local source = repository.source()
    assert.same({}, git.hidden(source, { "universal" }))
    local path = "universal/workflows/flow/phase.md"
    repository.git(source, "update-index", "--assume-unchanged", path)
    helper.write(source .. "/" .. path, "changed\n")
    assert.same({}, git.status(source))
    assert.same({ path }, git.hidden(source, { "universal" }))
  end)

  it("writes nothing into the repository", function()
    local source = repository.source()
    repository.sh("touch", source .. "/VERSION.txt") -- git would like to refresh its index
    local before = tree_of(source .. "/.git")
    git.status(source)
    git.files(source)
    git.history(source, { "universal" })
    assert.equal(before, tree_of(source .. "/.git"))
  end)

  it("runs no program the repository names", function()
    local source = repository.source()
    local directory = helper.tempdir()
    local proof, program = directory .. "/ran", directory .. "/program"
    helper.write(program, "#!/bin/sh\ntouch " .. proof .. "\n")
    repository.sh("chmod", "+x", program)
    -- A commit with a signature, which log.showSignature would have gpg.program look at.
    local signed = repository.git(source, "cat-file", "commit", "HEAD"):gsub("\n\n", "\ngpgsig "
      .. "-----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1)
    helper.write(directory .. "/commit", signed .. "\n")
    repository.git(source, "reset", "-q", "--hard",
      repository.git(source, "hash-object", "-t", "commit", "-w", directory .. "/commit"))
    for key, value in pairs({ ["core.fsmonitor"] = program, ["core.pager"] = program,
      ["log.showSignature"] = "true", ["gpg.program"] = program, ["diff.external"] = program }) do
      repository.git(source, "config", key, value)
    end
    assert.same({}, git.status(source))
    assert.equal(1, #assert(git.log(source, { "universal" })))
    assert.is_nil(helper.read(proof))
  end)

  it("explains a repository of another user", function()
    if require("praxlua.core").system.euid() ~= 0 then return end
    local source = repository.source()
    repository.sh("chown", "-R", "65534", source)
    local root, message, code = git.toplevel(source)
    assert.is_nil(root)
    assert.equal("EOWNER", code)
    assert.matches("belongs to another user", message)
    assert.matches("safe.directory", message)
  end)

  describe("with a git that answers something else", function()
    local process = require("praxlua.process")
    local run = process.run
    after_each(function() process.run = run end)

    local function answering(text)
      process.run = function()
        return { code = 0, signal = 0, stdout = text, stderr = "" }
      end
    end

    local ODD = {
      status = { "M", " M\0", " M \0" },
      files = { "100644 x 0\ta\0", "100644 0123 0\0", "usage: git\n" },
      log = {
        "usage: git\n", ":100644 100644 0123 4567 M\0a\0", "\1ab 2025-01-01\0:100644\0a\0",
        "\1ab 2025-01-01\0:100644 100644 0123 4567 M\0",
      },
      hidden = { "H\0", "usage: git\n" },
      tip = { "", "main\n", "ab\ncd\n", "true\n", "false\nab\ncd\n" },
      branch = { "", "a\nb\n" },
      toplevel = { "", "\n" },
    }
    for name, answers in pairs(ODD) do
      it("fails in " .. name .. " instead of guessing", function()
        for _, text in ipairs(answers) do
          answering(text)
          local paths = name ~= "files" and { "a" } or nil
          local message = helper.fails("EGIT", git[name]("/d", paths))
          assert.matches("gave no answer that makes sense in /d", message, 1, true)
        end
      end)
    end

    it("knows no commit", function()
      answering("no such thing\n")
      assert.is_nil(git.commit_exists("/d", "abcd"))
    end)

    it("keeps a line break at the beginning of a name", function()
      answering("\1ab 2025-01-01\0\n:100644 100644 0123 4567 M\0\na\0")
      assert.equal("\na", git.log("/d", { "a" })[1].changes[1].path)
    end)
  end)
end)
