--- The worked examples of docs/writing-phases.md: Lua blocks whose first line is a comment with the
-- path of a script.
local helper = require("spec.support.helper")

local page = {}

page.PATH = "docs/writing-phases.md"

--- The Lua blocks of the page.
---@return string[]
function page.blocks()
  local found = {}
  for block in assert(helper.read(page.PATH)):gmatch("\n```lua\n(.-\n)```\n") do
    found[#found + 1] = block
  end
  return found
end

--- The scripts of the page, as they stand there, by file name.
---@return table<string, string>
function page.scripts()
  local found = {}
  for _, block in ipairs(page.blocks()) do
    local name = block:match("^%-%- %.praxis%-os/phases/([^\n/]+%.lua)\n")
    if name then
      assert(not found[name], "two scripts are called " .. name)
      found[name] = block
    end
  end
  return found
end

return page
