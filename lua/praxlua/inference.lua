--- Inferring which commit of a source was installed, from the files that nobody changed: of all
-- trees of the history the one that is most like what is here. Pure.
--
-- A tree is a table of source path -> { key, oid, mode }, `key` as of git.key.
local git = require("praxlua.git")

local inference = {}

-- The share of a commit's files that must be here, changed or not, for a missing one to count as
-- deleted.
local CLEAR = 0.75

-- Counts a file of a tree in, or out again.
local function count(score, here, path, file, by)
  local mine = here[path]
  score.files = score.files + by
  if mine then score.present = score.present + by end
  if mine == file.key then score.matches = score.matches + by end
end

--- One step back in time along the first parents.
local function undo_commit(tree, score, commit, here)
  for _, change in ipairs(commit.changes) do
    local path = change.path
    if tree[path] then count(score, here, path, tree[path], -1) end
    tree[path] = nil
    if change.old:find("[^0]") then
      tree[path] = { key = git.key(change.old_mode, change.old), oid = change.old,
        mode = change.old_mode }
      count(score, here, path, tree[path], 1)
    end
  end
end

-- A file that is as shipped speaks for a tree twice as much as a missing one speaks against it: a
-- person changes files more often than that they delete or move them.
local function value_of(score) return 2 * score.matches - (score.files - score.present) end

local function better(a, b)
  local one, other = value_of(a), value_of(b)
  if one ~= other then return one > other end
  return a.files < b.files
end

local function agreement(tree, score, commit)
  local files = {}
  for path, file in pairs(tree) do files[path] = file end
  return { matches = score.matches, files = score.files, present = score.present, tree = files,
    commit = commit }
end

-- The file of the best tree with that of an equally good one beside it.
local function with_other(file, other)
  local others = table.move(file.others or {}, 1, #(file.others or {}), 1, {})
  others[#others + 1] = other
  return { key = file.key, oid = file.oid, mode = file.mode, others = others }
end

--- An equally good tree: where it has another version, either may be it (`others`); where only one
--- of the two has a file, nothing is known (false).
local function restrict(best, tree)
  for path, file in pairs(best.tree) do
    local other = tree[path]
    if file and not other then
      best.tree[path] = false
    elseif file and other.key ~= file.key then
      best.tree[path] = with_other(file, other)
    end
  end
  for path in pairs(tree) do
    if best.tree[path] == nil then best.tree[path] = false end
  end
end

--- Walks the history from the newest commit back to the tree that is most like what is here.
---@param tree table of the newest commit; changed
---@param head string that commit
---@param commits table[] of git.log along the first parents, newest first
---@param here table<string, string> source path -> git.key of what is installed there
---@return { tree: table, commit: string?, is_clear: boolean }|nil found nil when none is like it in
---  half of its files. In its tree a file may have `others`, and be false: see restrict above.
---  is_clear: a file that is missing here was deleted
function inference.infer(tree, head, commits, here)
  local score = { matches = 0, files = 0, present = 0 }
  for path, file in pairs(tree) do count(score, here, path, file, 1) end
  local best = agreement(tree, score, head)
  for i, commit in ipairs(commits) do
    undo_commit(tree, score, commit, here)
    if better(score, best) then
      best = agreement(tree, score, commits[i + 1] and commits[i + 1].commit)
    elseif not better(best, score) then
      restrict(best, tree)
    end
  end
  if best.matches == 0 or best.matches * 2 < best.files then return nil end
  return { tree = best.tree, commit = best.commit,
    is_clear = best.present >= CLEAR * best.files }
end

return inference
