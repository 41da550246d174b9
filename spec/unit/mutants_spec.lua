-- The list of mutants is whole: every call that guards something has one, and each can be made.
local mutants = require("spec.faults.mutants")
local sites = require("spec.faults.sites")

describe("the mutants", function()
  it("cover every call of a guard, and nothing that is not there", function()
    local problems = {}
    for i, problem in ipairs(mutants.missing()) do
      problems[i] = problem.name .. ": " .. problem.why
    end
    assert.same({}, problems)
  end)

  it("can all be made, and each names who catches it", function()
    for _, mutant in ipairs(mutants.list) do
      local text, problem = mutants.apply(mutant)
      assert.is_string(text, mutant.name .. ": " .. tostring(problem))
      assert.is_true(#mutant.caught_by > 0, mutant.name .. " has no catcher")
    end
  end)
end)

describe("the calls of guards", function()
  local C = [[
/* guard(1) in a comment */
static int guard(int x) {
    return x;
}

int caller(void) {
    const char *text = "guard(2)";
    if (other_guard(3) || guard(f(4,
        5)) != 0)
        return guard (6);
    return 0;
}
]]

  it("are found in C with the function they are in, whatever they contain", function()
    local found = sites.of("runtime/x.c", C, { "guard" })
    assert.equal(2, #found)
    assert.equal("x.c/caller/guard", sites.name(found[1]))
    assert.equal("x.c/caller/guard2", sites.name(found[2]))
    assert.equal("guard(f(4,\n        5))", C:sub(found[1].from, found[1].stop))
    assert.matches("|| 0 != 0%)", sites.replaced(C, found[1], "0"))
  end)

  it("are found in Lua, methods and fields too", function()
    local lua = "local function a(x)\n  return core.lock.acquire(x) -- core.lock.acquire(y)\nend\n"
      .. "function m.b() return lock.acquire(1) end\n"
    local found = sites.of("lua/praxlua/x.lua", lua, { "core.lock.acquire" })
    assert.equal(1, #found)
    assert.equal("x/a/core.lock.acquire", sites.name(found[1]))
    assert.equal(2, #sites.of("lua/praxlua/x.lua", lua, { "acquire" }))
  end)
end)
