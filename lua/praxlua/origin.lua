--- Where the base of a file is known from, in words.
local origin = {}

-- How people are told where a base came from.
local KNOWN_BY = {
  manifest = "the record of the last upgrade", history = "the source's history",
  commit = "the commit in VERSION.txt", inferred = "the versions of the other files",
  nearest = "likeness", unknown = "nothing",
}

--- Where one base is known from, in words.
---@param from string|nil what praxlua.base calls it
---@return string|nil
function origin.word(from) return KNOWN_BY[from] end

--- Where the bases of a plan came from, in words: "120 by the record of the last upgrade, …".
---@param counts table<string, integer> by what praxlua.base calls it
---@return string
function origin.describe(counts)
  local parts = {}
  for _, from in ipairs({ "manifest", "history", "commit", "inferred", "nearest", "unknown" }) do
    if counts[from] then parts[#parts + 1] = ("%d by %s"):format(counts[from], KNOWN_BY[from]) end
  end
  return table.concat(parts, ", ")
end

return origin
