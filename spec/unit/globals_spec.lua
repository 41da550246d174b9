--- The global names of a script, from its bytecode.
local globals = require("praxlua.phases.globals")
local helper = require("spec.support.helper")

describe("The globals of a script", function()
  local function told(source)
    local list = {}
    for i, access in ipairs(assert(globals.read(string.dump(assert(load(source)))))) do
      list[i] = ("%d%s%s"):format(access.line, access.sets and "=" or " ", access.name)
    end
    return table.concat(list, ", ")
  end

  it("are those that are read and set, with their lines", function()
    assert.equal("1 print, 2=x, 3 x, 3=y", told("local a = print\nx = a\ny = x"))
  end)

  it("are no locals, parameters, fields and labels", function()
    assert.equal("", told([[
      local os = {} ; os.time = 5
      local function io(require) return require.print, os[1] end
      for print = 1, 2 do goto warn ; ::warn:: end
      return io ]]))
  end)

  it("are found in functions within functions", function()
    assert.equal("1 a, 2 b, 3=c", told("return a, function() return\nb, function()\nc = 1 end end"))
  end)

  it("are not those of another _ENV", function()
    assert.equal("3 real", told([[
      do local _ENV = { x = 1 } ; y = x ; local function f() return z end end
      local function g(_ENV) return name end
      return real ]]))
    assert.equal("1 y, 1=x", told("_ENV.x = _ENV.y"))
  end)

  it("are found where there are more names than an instruction reaches", function()
    local lines = {}
    for i = 1, 600 do lines[i] = ("a%d = b%d"):format(i, i) end
    local found = assert(globals.read(string.dump(load(table.concat(lines, "\n")))))
    assert.equal(1200, #found)
    for i, access in ipairs(found) do
      assert.equal((i + 1) // 2, access.line)
      assert.equal((access.sets and "a" or "b") .. access.line, access.name)
    end
  end)

  it("have names longer than the short strings of Lua", function()
    local name = ("n"):rep(60)
    assert.equal("1 " .. name, told("return " .. name))
    assert.equal("1=" .. name, told(name .. " = 1"))
  end)

  it("keep their lines across long gaps", function()
    assert.equal("1 a, 302 b, 302 c", told("local x = a" .. ("\n"):rep(301) .. "x = b + c"))
  end)

  it("are not guessed at in a format that is not known", function()
    local dump = string.dump(load("return x"))
    helper.fails("EFORMAT", globals.read(""))
    helper.fails("EFORMAT", globals.read("\27LJ\2\n"))
    helper.fails("EFORMAT", globals.read(dump:sub(1, 4) .. "\x55" .. dump:sub(6)))
    for size = 5, #dump - 1 do helper.fails("EFORMAT", globals.read(dump:sub(1, size))) end
  end)
end)
