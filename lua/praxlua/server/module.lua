--- Which copy of the server's module runs.
local ask = require("praxlua.server.ask")
local command = require("praxlua.server.command")
local core = require("praxlua.core")
local layout = require("praxlua.layout")
local process = require("praxlua.process")
local text = require("praxlua.text")

local file = core.file

local module = {}

local SECONDS = 15
local FIND = "import importlib.util as u; s = u.find_spec('%s'); print(s.origin if s else '')"

--- The file that `-m MODULE` runs. It is another than the installed one where the working
--- directory holds the module too, as in praxis-os' own work tree: that comes before PYTHONPATH.
---@param ctx table
---@param code string directory that holds the server's module
---@return string|nil path of its __init__.py
---@return boolean|nil ours whether it lies beneath `code`
function module.path(ctx, code)
  local name = layout.server_of(ctx).module
  local options = ask.command(ctx, "stdio", code)
  options.environment.PYTHONDONTWRITEBYTECODE = "1"
  options.argv = { command.interpreter(ctx, code), "-c", FIND:format(name) }
  options.timeout = SECONDS
  local result = process.run(options)
  local path = result and result.code == 0 and result.stdout:match("^([^\n]+)\n")
  if not path then return nil end
  local real, wanted = file.realpath(path), file.realpath(code .. "/" .. name)
  return path, real ~= nil and wanted ~= nil and real:sub(1, #wanted + 1) == wanted .. "/"
end

--- The same, with a warning where the copy is another one.
---@param ctx table
---@param code string directory that holds the server's module
---@return string|nil path of its __init__.py
---@return boolean|nil ours
function module.checked(ctx, code)
  local path, ours = module.path(ctx, code)
  if path and not ours and ctx.warn then
    local message = "%s is run instead of %s/%s: the working directory comes first. "
      .. "What is proven is that copy; rename or move it to have the other proven"
    ctx.warn(message:format(text.visible(path), code, layout.server_of(ctx).module))
  end
  return path, ours
end

return module
