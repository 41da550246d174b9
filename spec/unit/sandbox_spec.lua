--- The hostile suite itself: enough cases, no two for the same hole, and defences that can be taken
--- out. The suite runs in a stage of its own (make sandbox).
local cases = require("spec.sandbox.cases")
local defences = require("spec.sandbox.defences")
local defending = require("spec.sandbox.defending")
local names = require("spec.sandbox.names")
local verbs = require("praxlua.verbs")
local verdict = require("praxlua.verdict")

describe("The hostile suite", function()
  it("has enough cases, in each group and together", function()
    local count = {}
    for _, case in ipairs(cases.all()) do count[case.group] = (count[case.group] or 0) + 1 end
    local total = 0
    for _, group in ipairs(cases.GROUPS) do
      assert.is_true(count[group.name] >= cases.FLOOR.group, group.name)
      total = total + count[group.name]
    end
    assert.is_true(total >= cases.FLOOR.all)
  end)

  it("has no two cases for the same hole, or with the same script or id", function()
    local holes, scripts, ids = {}, {}, {}
    local letters = {}
    for _, group in ipairs(cases.GROUPS) do letters[group.name] = group.letter end
    for _, case in ipairs(cases.all()) do
      local hole = case.hole:lower():gsub("%W+", " ")
      assert.is_nil(holes[hole], case.id .. ": " .. case.hole)
      assert.is_nil(ids[case.id], case.id)
      assert.matches("^" .. letters[case.group] .. "%d%d$", case.id)
      assert.is_true(#case.hole >= 12, case.id)
      holes[hole], ids[case.id] = true, true
      -- What differs in two cases with one script is what surrounds it.
      local whole = cases.script(case) .. tostring(case.prepare) .. tostring(case.during)
        .. tostring(case.dry) .. table.concat(case.completed or {}, " ") .. tostring(case.number)
      assert.is_nil(scripts[whole], case.id)
      scripts[whole] = true
    end
  end)

  it("expects verdicts there are, and scripts that compile", function()
    local own = { refused = true, killed = true }
    for _, case in ipairs(cases.all()) do
      local expected = type(case.expect) == "table" and case.expect or { case.expect }
      assert.is_true(#expected > 0, case.id)
      for _, one in ipairs(expected) do
        assert.is_true(own[one] or verdict.is(one), case.id .. ": " .. tostring(one))
      end
      local script = cases.script(case)
      if script:sub(1, 1) ~= "\27" then assert(load(script, case.id, "t")) end
    end
  end)

  it("knows every verb there is by name", function()
    local known = {}
    for name in pairs(verbs.names({ source = "read", target = "write", project = "write",
      tools = { "git" }, services = verbs.services() })) do
      known[#known + 1] = name
    end
    table.sort(known)
    assert.same(names.verbs(), known)
  end)

  it("can take out each of its defences, and names cases that there are", function()
    local ids, seen = {}, {}
    for _, case in ipairs(cases.all()) do ids[case.id] = true end
    assert.is_true(#defences.list >= 25)
    for _, defence in ipairs(defences.list) do
      assert.is_nil(seen[defence.name], defence.name)
      seen[defence.name] = true
      local changed, why = defending.without(defence)
      assert(changed, defence.name .. ": " .. tostring(why))
      assert.is_true(#defence.cases > 0, defence.name)
      for _, id in ipairs(defence.cases) do assert.is_true(ids[id], id) end
    end
  end)
end)
