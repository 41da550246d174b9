--- `make bench`: what things cost, each beside something that is run in the same minute, in turns.
--
-- A measurement has a bar, told as a difference or a ratio; the medians count. The results are in
-- B/bench.json. Exit 1 when a bar is missed, so that nobody overlooks it; it is no test, because
-- machines are noisy.
local core = require("praxlua.core")
local json = require("praxlua.json")
local terminal = require("praxlua.terminal")

local BUILD = os.getenv("B") or "build"
local FAMILIES = { "phase", "environment", "server" }

local found = {}
for _, name in ipairs(FAMILIES) do
  for _, row in ipairs(require("spec.bench." .. name)()) do found[#found + 1] = row end
end

local rows, missed = {}, 0
for i, row in ipairs(found) do
  row.met = row.value <= row.bar
  if not row.met then missed = missed + 1 end
  rows[i] = { row.met and { "green", "ok" } or { "red", "missed" }, row.name, row.measured,
    row.beside, ("%.1f %s"):format(row.value, row.unit), ("%g %s"):format(row.bar, row.unit) }
end
local out = terminal.new({ out = io.stdout, is_terminal = core.system.isatty(1) })
out.table(rows, { header = { "", "what", "measured", "beside", "value", "at most" } })
assert(core.file.write_atomic(BUILD .. "/bench.json", json.encode({ rows = json.array(found) })))
os.exit(missed == 0)
