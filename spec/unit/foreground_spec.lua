--- A program at the user's terminal: it shares ours, and Ctrl-C is its own.
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

describe("core.foreground.run", function()
  after_each(helper.clean)

  local function sh(script, ...)
    return core.foreground.run({ "/bin/sh", "-c", script, "sh", ... })
  end

  it("waits for the end, and tells how it came", function()
    assert.same({ code = 3, signal = 0 }, sh("exit 3"))
    assert.same({ code = -1, signal = 9 }, sh("kill -9 $$"))
  end)

  it("hands the arguments over as they are, with our environment and group", function()
    local path = helper.tempdir() .. "/out"
    local words = 'printf "%s|%s|%s\\n" "$2" "$PATH" "$(ps -o pgid= -p $$ | tr -d " ")" > "$1"'
    assert.equal(0, sh(words, path, "a 'b'\n-c").code)
    local group = helper.output_of("ps -o pgid= -p %d", core.system.pid()):gsub(" ", "")
    assert.equal(("a 'b'\n-c|%s|%s\n"):format(os.getenv("PATH"), group), helper.read(path))
  end)

  it("leaves Ctrl-C to the program, which has it as it comes from a shell", function()
    core.system.catch_signals()
    assert.same({ code = -1, signal = 2 }, sh("kill -INT $PPID; kill -INT $$; exit 0"))
    assert.is_nil(core.system.interrupted())
    core.system.signal(core.system.pid(), "INT")
    assert.equal("SIGINT", core.system.interrupted())
    core.system.clear_interrupt()
  end)

  it("notes another signal, and waits all the same", function()
    core.system.catch_signals()
    assert.same({ code = 0, signal = 0 }, sh("kill -TERM $PPID; sleep 0.05; exit 0"))
    assert.equal("SIGTERM", core.system.interrupted())
    core.system.clear_interrupt()
  end)

  it("leaves a terminal in which lines can be typed, however the program ended", function()
    local output = child.run([[
      core.foreground.run({ "/bin/sh", "-c", "stty raw -echo; kill -9 $$" })
      os.execute("stty -a")
    ]], 'in_terminal() { script -qec "$*" /dev/null; }; in_terminal')
    for _, setting in ipairs({ "icanon", "echo", "icrnl", "isig" }) do
      assert.truthy((" " .. output):find("%s" .. setting .. "%s"), output)
    end
  end)

  it("fails for what cannot be started, and raises for what is misused", function()
    helper.fails("ENOENT", core.foreground.run({ "/nowhere/at/all" }))
    helper.fails("EINVAL", core.foreground.run({ "/bin/sh", "a\0b" }))
    assert.has_error(function() core.foreground.run({ "sh" }) end)
    assert.has_error(function() core.foreground.run({}) end)
    assert.has_error(function() core.foreground.run({ "/bin/sh", 3 }) end)
  end)
end)
