--- What the environment of a server costs to clone, to exchange and to bring back: one of 20,000
-- files, as packages have them, beside `cp -a` of the same.
local change = require("praxlua.change")
local clone = require("praxlua.dependencies.clone")
local core = require("praxlua.core")
local process = require("praxlua.process")

local ROUNDS = 5

-- 200 packages: half of their files is code, a third bytecode, the rest data and records.
local MAKE = [[
import os, sys
venv = sys.argv[1]
site = venv + "/lib/python3.11/site-packages/"
def write(path, size):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        out.write("x" * size)
for p in range(200):
    package = "%spackage%d/" % (site, p)
    for f in range(50):
        write("%spart%d/code%d.py" % (package, f % 5, f), 6000)
    for f in range(33):
        write("%spart%d/__pycache__/code%d.cpython-311.pyc" % (package, f % 5, f), 5000)
    for f in range(12):
        write("%sdata/data%d.json" % (package, f), 3000)
    for name in ("METADATA", "RECORD", "WHEEL", "INSTALLER"):
        write("%spackage%d-1.dist-info/%s" % (site, p, name), 2000)
    write("%s/bin/tool%d" % (venv, p), 0)
    with open("%s/bin/tool%d" % (venv, p), "w") as out:
        out.write("#!%s/bin/python\nimport sys\n" % venv)
write(venv + "/pyvenv.cfg", 100)
]]

local function median(list)
  table.sort(list)
  return list[#list // 2 + 1]
end

local function run(...)
  local result = assert(process.run({ argv = { ... }, environment = process.environment(),
    timeout = 300 }))
  assert(result.code == 0, result.stderr)
end

local function timed(times, work, ...)
  local began = core.system.monotonic()
  assert(work(...))
  times[#times + 1] = core.system.monotonic() - began
end

-- One upgrade of the environment and its rollback, as far as praxlua's own work goes.
local function round(project, times)
  local name = ".praxis-os/.upgrade/" .. core.system.uuid()
  local folder, venv = project .. "/" .. name, project .. "/.praxis-os/venv"
  local transaction = assert(core.transaction.open(project, name, { create = true }))
  local ctx = { target = project .. "/.praxis-os", project = project, target_name = ".praxis-os",
    change = change.new(transaction, project, folder) }
  timed(times.cp, function()
    run("cp", "-a", venv, project .. "/copy")
    return true
  end)
  run("rm", "-r", project .. "/copy")
  local number, path = ctx.change.stage()
  timed(times.clone, clone.copy, venv, path)
  timed(times.switch, clone.switch, ctx, { path = path, number = number })
  timed(times.rollback, function()
    return transaction:rollback() and core.tree.remove(folder)
  end)
  transaction:close()
end

return function()
  local project = ("%s/praxlua-bench-%s"):format(os.getenv("TMPDIR") or "/tmp", core.system.uuid())
  assert(core.file.mkdir(project .. "/.praxis-os/.upgrade"))
  run("python3", "-c", MAKE, project .. "/.praxis-os/venv")
  local times = { cp = {}, clone = {}, switch = {}, rollback = {} }
  for _ = 1, ROUNDS do round(project, times) end
  assert(core.tree.remove(project))
  local cp, cloned = median(times.cp), median(times.clone)
  local function row(name, of, bar)
    local value = median(times[of])
    return { name = name, measured = ("%.2f s"):format(value), beside = ("%.2f s"):format(cp),
      value = value, unit = "s", bar = bar, ratio = value / cp, runs = ROUNDS }
  end
  return {
    { name = "a clone of an environment of 20,000 files, beside cp -a of it",
      measured = ("%.2f s"):format(cloned), beside = ("%.2f s"):format(cp),
      value = cloned / cp, unit = "times", bar = 1, ratio = cloned / cp, runs = ROUNDS },
    row("the exchange of the clone for the environment, its scripts corrected", "switch", 2),
    row("the rollback of that, the clone removed", "rollback", 2),
  }
end
