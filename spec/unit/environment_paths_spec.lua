--- The paths that an environment holds of itself.
local core = require("praxlua.core")
local environment_paths = require("praxlua.environment_paths")
local helper = require("spec.support.helper")

local correct = environment_paths.correct

describe("environment_paths", function()
  local place, OLD, NEW = nil, "/old/project/venv", "/new/venv"

  before_each(function() place = helper.tempdir() .. "/venv" end)
  after_each(helper.clean)

  local function write(path, data) helper.write(place .. "/" .. path, data) end
  local function read(path) return helper.read(place .. "/" .. path) end
  local function sh(line) assert(os.execute(("cd %s && %s"):format(place, line))) end

  it("corrects settings, scripts, absolute links, and where packages in development lie", function()
    local packages = "lib/python3.11/site-packages/"
    local files = {
      ["pyvenv.cfg"] = "home = /usr/bin\ncommand = /usr/bin/python3 -m venv %s\n",
      ["bin/tool"] = "#!%s/bin/python3\nimport tool\n",
      ["bin/activate"] = 'VIRTUAL_ENV="%s"\nexport VIRTUAL_ENV\n',
      [packages .. "mine.pth"] = "%s/src/mine\n",
      [packages .. "mine.egg-link"] = "%s/src/mine\n.",
      [packages .. "__editable___mine_finder.py"] = "MAPPING = {'mine': '%s/src/mine'}\n",
      [packages .. "mine-1.dist-info/direct_url.json"] = '{"url": "file://%s/src/mine"}',
    }
    for path, data in pairs(files) do write(path, data:format(OLD)) end
    write(packages .. "code.py", "OLD = '" .. OLD .. "'\n")
    sh("ln -s python3 bin/python && ln -s " .. OLD .. "/bin/python3 bin/python3.11")
    sh("ln -s " .. OLD .. "/lib lib64 && chmod 751 bin/tool")
    assert.is_true(correct(place, OLD, NEW))
    for path, data in pairs(files) do assert.equal(data:format(NEW), read(path), path) end
    assert.equal("OLD = '" .. OLD .. "'\n", read(packages .. "code.py"))
    assert.equal("python3", core.file.readlink(place .. "/bin/python"))
    assert.equal(NEW .. "/bin/python3", core.file.readlink(place .. "/bin/python3.11"))
    assert.equal(NEW .. "/lib", core.file.readlink(place .. "/lib64"))
    assert.equal(tonumber("751", 8), core.file.stat(place .. "/bin/tool").mode)
  end)

  it("leaves alone other paths that begin or end alike, what is no text, and what is behind links",
    function()
      helper.write(place .. "-other/tool", "#!" .. OLD .. "/bin/python\n")
      local files = { ["bin/other"] = "#!" .. OLD .. "-2/bin/python\n",
        ["bin/deeper"] = "#!/backup" .. OLD .. "/bin/python\n",
        ["bin/program"] = "\127ELF\0" .. OLD .. "/lib\0" }
      for path, data in pairs(files) do write(path, data) end
      sh("ln -s ../../venv-other/tool bin/theirs")
      assert.is_true(correct(place, OLD, NEW))
      for path, data in pairs(files) do assert.equal(data, read(path), path) end
      assert.equal("#!" .. OLD .. "/bin/python\n", helper.read(place .. "-other/tool"))
    end)

  it("never writes into a file that has another name", function()
    write("bin/tool", "#!" .. OLD .. "/bin/python\n")
    sh("ln bin/tool other")
    assert.is_true(correct(place, OLD, NEW))
    assert.equal("#!" .. NEW .. "/bin/python\n", read("bin/tool"))
    assert.equal("#!" .. OLD .. "/bin/python\n", read("other"))
  end)

  it("keeps scripts running whose interpreter comes to lie too deep for the kernel", function()
    local deep = helper.tempdir() .. ("/" .. ("d"):rep(100)):rep(3) .. "/venv"
    local script = "#!" .. place .. "/bin/python -I\nimport sys; print(sys.argv[1])\n"
    write("bin/tool", script)
    sh("ln -s /usr/bin/python3 bin/python && chmod 755 bin/tool")
    assert.is_true(correct(place, place, deep))
    assert.matches("^#!/bin/sh\n'''exec' /", read("bin/tool"))
    assert(core.file.mkdir(deep:match("^(.*)/")))
    assert(core.file.rename(place, deep))
    local pipe = assert(io.popen(deep .. "/bin/tool 'an argument' 2>&1"))
    assert.equal("an argument\n", pipe:read("a"))
    pipe:close()
    assert.is_true(correct(deep, deep, place))
    assert.equal(script, helper.read(deep .. "/bin/tool"))
  end)

  it("gives sh no path to be read as anything else", function()
    local strange = helper.tempdir() .. ("/" .. ("d"):rep(100)):rep(2) .. "/$(exit)`x`;&/venv"
    write("bin/tool", "#!" .. place .. "/bin/python\nimport sys; print(sys.argv[1])\n")
    sh("ln -s /usr/bin/python3 bin/python && chmod 755 bin/tool")
    assert.is_true(correct(place, place, strange))
    assert(core.file.mkdir(strange:match("^(.*)/")))
    assert(core.file.rename(place, strange))
    local pipe = assert(io.popen("'" .. strange .. "/bin/tool' argument 2>&1"))
    assert.equal("argument\n", pipe:read("a"))
    pipe:close()
  end)

  it("keeps the quotes of pip around a path that holds one", function()
    local script = "#!/bin/sh\n'''exec' \"%s/bin/python\" \"$0\" \"$@\"\n' '''\nimport tool\n"
    local mine = "/home/it's mine/venv"
    write("bin/tool", script:format(OLD .. "/it's mine"))
    assert.is_true(correct(place, OLD .. "/it's mine", mine))
    assert.equal(script:format(mine), read("bin/tool"))
  end)

  it("may be repeated, and after a kill in the middle", function()
    write("bin/tool", "#!" .. NEW .. "/bin/python\n")
    write("bin/.other.px-12-3", "half")
    write("lib/python3.11/site-packages/.a.pth.px-12-3", "half")
    environment_paths.sweep(place)
    assert.is_true(correct(place, OLD, NEW))
    assert.equal("#!" .. NEW .. "/bin/python\n", read("bin/tool"))
    assert.is_nil(read("bin/.other.px-12-3"))
    assert.is_nil(read("lib/python3.11/site-packages/.a.pth.px-12-3"))
    environment_paths.sweep(place .. "-none")
    assert.is_true(correct(place .. "-none", OLD, NEW))
  end)
end)
