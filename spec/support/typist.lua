--- praxlua at a real terminal, and somebody who types: for what only a terminal can show.
local cjson = require("cjson")
local command = require("spec.support.command")
local helper = require("spec.support.helper")

local typist = {}

--- What these keys send.
typist.CTRL_C, typist.CTRL_D = "\3", "\4"

-- cjson wants text; the other side reads each character as one byte.
local function as_latin1(s)
  return (s:gsub("[\x80-\xff]", function(c) return utf8.char(c:byte()) end))
end

local function as_bytes(s)
  return (s:gsub(utf8.charpattern, function(c) return string.char(utf8.codepoint(c) & 0xff) end))
end

--- Runs praxlua in a project of spec.support.tiny, at a terminal.
---@param s table from tiny.new
---@param argv string[]
---@param steps { [1]: string, [2]: string }[] a text to wait for, and what is typed then
---@param environment table<string, string>? more variables
---@return { code: integer, output: string }
function typist.run(s, argv, steps, environment)
  local whole = { TERM = "xterm", PRAXLUA_COVERAGE_DIR = os.getenv("PRAXLUA_COVERAGE_DIR") }
  for name, value in pairs(s.environment) do whole[name] = value end
  for name, value in pairs(environment or {}) do whole[name] = value end
  local typed = {}
  for i, step in ipairs(steps) do typed[i] = { as_latin1(step[1]), as_latin1(step[2]) } end
  helper.write(s.root .. "/script.json", cjson.encode({
    argv = { s.executable, table.unpack(argv) }, directory = s.project, environment = whole,
    seconds = 60, steps = #typed > 0 and typed,
  }))
  local said = command.succeed({ "sh", "-c", 'exec python3 "$0" < "$1"',
    "spec/support/pty_session.py", s.root .. "/script.json" }, { scratch = s.scratch })
  local result = cjson.decode(said)
  result.output = as_bytes(result.output)
  assert(result.problem == cjson.null, tostring(result.problem) .. "\n" .. result.output)
  return result
end

return typist
