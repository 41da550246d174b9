--- The sides of a conflict: what was shipped before, what is here and what is shipped now, and all
-- three in one text with markers, for those who decide.
local base = require("praxlua.base")
local core = require("praxlua.core")
local merge = require("praxlua.merge")

local sides = {}

local function state_of(id)
  return { type = id:find("^link:") and "link" or "file", id = id }
end

-- What was shipped; nil without a message where it is not known, or nobody has it any more.
local function base_of(ctx, entry)
  if not entry.base then return nil end
  local known = ctx.memory.known
  if not known then
    local message, code
    known, message, code = base.open(ctx)
    if not known then return nil, message, code end
    ctx.memory.known = known
  end
  return base.content(known, entry.moved_from or entry.path, state_of(entry.base))
end

-- What stands at a path: bytes of a file, "link:TARGET" of a link, nil for anything else.
local function bytes_at(path)
  local stat = core.file.stat(path)
  if not stat or stat.type ~= "file" and stat.type ~= "link" then return nil end
  if stat.type == "link" then return "link:" .. stat.target end
  return core.file.read(path)
end

--- The sides of a conflict of a plan.
---@param ctx table
---@param entry table of the plan
---@return { base: string?, ours: string?, theirs: string?, merged: string? }|nil sides bytes, or
---  "link:TARGET" for a link; merged: with markers (the base between them), only of texts
---@return string|nil message
---@return string|nil code
function sides.of(ctx, entry)
  local found, message, code = {}
  found.base, message, code = base_of(ctx, entry)
  if message then return nil, message, code end
  local here = ctx.target .. "/" .. (entry.edited_at or entry.path)
  found.ours, message, code = bytes_at(here)
  if message then return nil, message, code end
  if entry.source then found.theirs, message, code = bytes_at(ctx.source .. "/" .. entry.source) end
  if message then return nil, message, code end
  local is_link = core.file.readlink(here) or (entry.new or ""):find("^link:")
  if found.ours and found.theirs and not is_link then
    local merged
    merged, message, code = merge.text(found.base or "", found.ours, found.theirs)
    if not merged and code ~= "ENOTTEXT" then return nil, message, code end
    found.merged = merged and merged.text
  end
  return found
end

return sides
