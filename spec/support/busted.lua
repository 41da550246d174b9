--- Runs busted under the interpreter that runs this file. The `busted` command takes whatever
-- "lua" happens to be, which need not be Lua 5.4.

if os.getenv("PRAXLUA_COVERAGE_DIR") then
  local coverage = require("praxlua.core").coverage
  if coverage then coverage.start() end
end

require("busted.runner")({ standalone = false })
