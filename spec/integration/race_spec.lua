-- A person saves a file exactly between two calls of a transaction, at every call of it: what they
-- saved is there afterwards, whatever became of the transaction.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local tracer = require("spec.faults.tracer")

local PRELUDE = [[
package.path, package.cpath = %q, %q
local core = require("praxlua.core")
local t = assert(core.transaction.open(%q, ".upgrade/s", { create = true }))
local function try(ok, message, code)
  assert(ok or code == "ECHANGED", message)
  if not ok then print(code) end
end
]]

-- Before the first call of a change its path is looked at: what is saved later is a person's.
local QUEUE = {
  put = [[try(t:put("a", { data = "new" }))]],
  remove = [[try(t:remove("a"))]],
  create = [[try(t:put("b", { data = "new" }))]],
  rmdir = [[try(t:rmdir("d"))]],
}

local ENDS = {
  commit = " try(t:apply()) assert(t:commit()) assert(t:rescue())",
  rollback = " try(t:apply()) print('kept', assert(t:rollback())[1]) assert(t:rescue())",
}

-- What a file system can do.
local ROADS = {
  ["that exchanges names"] = {},
  ["without flags of rename"] = { "renameat2:EINVAL" },
}

-- How an editor writes NAME; $1 is the number of the call.
local SAVES = {
  ["a new file over it"] = 'printf "mine $1" > ../mine && mv ../mine NAME',
  ["into the file"] = 'printf "mine $1" > NAME',
}

-- Calls `visit` with each path beneath a folder that is no folder itself, and `leave` with each
-- folder once that is done. There are hundreds of trees to look at and to remove: a program for
-- each would take longer than what is tried.
local function walk(folder, visit, leave)
  for name in lfs.dir(folder) do
    local path = folder .. "/" .. name
    if name ~= "." and name ~= ".." then
      local is_folder = lfs.symlinkattributes(path, "mode") == "directory"
      if is_folder then walk(path, visit, leave) else visit(path) end
    end
  end
  leave(folder)
end

describe("a person's save survives", function()
  local base, root

  before_each(function()
    base = helper.tempdir(core.system.access("/dev/shm", "w") and "/dev/shm" or nil)
    root = base .. "/root"
  end)
  after_each(helper.clean)

  local function fresh()
    local function remove(path) assert(os.remove(path)) end
    if lfs.attributes(root) then walk(root, remove, remove) end
    helper.tree(root, { a = "old", ["d/.keep"] = "" })
    os.remove(root .. "/d/.keep")
  end

  local function run(kind, ending, road, at, save)
    fresh()
    local script = base .. "/script.lua"
    helper.write(script, PRELUDE:format(package.path, package.cpath, root) .. QUEUE[kind]
      .. ENDS[ending])
    local environment = core.system.environment()
    environment.ASAN_OPTIONS = "detect_leaks=0" -- no leak checker works in what is traced
    return tracer.run({
      argv = { os.getenv("LUA") or "lua5.4", script }, root = root, directory = base,
      environment = environment, deny = ROADS[road], log = true,
      mode = save and "pause" or "count", at = at,
      hook = save and { "sh", "-c", "cd " .. root .. " && { " .. save .. "; }", "save" },
    })
  end

  local NAMES = { put = "a", remove = "a", create = "b", rmdir = "d/x" }

  local CHANGES_NAMES = { rename = true, renameat = true, renameat2 = true, linkat = true,
    unlinkat = true, mkdirat = true }

  -- The calls before which a person saves: those that change names, once the path was looked at.
  local function moments(kind, ending, road)
    local result, list, begun = run(kind, ending, road), {}, false
    assert.equal(0, result.code, result.stderr)
    for _, call in ipairs(result.calls) do
      begun = begun or (call.path2 or call.path or ""):find("/[us][nt][da][og]e?/%d") ~= nil
        or call.name == "syncfs"
      if begun and CHANGES_NAMES[call.name] then list[#list + 1] = call.n end
    end
    return list
  end

  -- The calls around a moment.
  local function told(result, at)
    local lines = {}
    for n = math.max(1, at - 6), math.min(result.count, at + 6) do
      local call = result.calls[n]
      local from, to = call.path or call.fd_path or "", call.path2 or ""
      lines[#lines + 1] = ("\n%s %d %s %s %s %d"):format(n == at and ">" or " ", n, call.name,
        from:sub(#root + 2), to:sub(#root + 2), call.result)
    end
    return table.concat(lines)
  end

  local function is_kept(text)
    local found = false
    walk(root, function(path)
      local is_own = path:find("/.upgrade/", #root, true) ~= nil
      found = found or not is_own and (helper.read(path) or ""):find(text, 1, true) ~= nil
    end, function() end)
    return found
  end

  -- The call by which the path gets its new content, or loses the old one.
  local function switch_of(kind, road)
    local result = run(kind, "commit", road)
    for _, call in ipairs(result.calls) do
      local place = call.path == root .. "/a" or call.path2 == root .. "/a"
      if place and call.name:find("^rename") and call.result == 0 then return call.n end
    end
  end

  local OVER = SAVES["a new file over it"]:gsub("NAME", "a")

  for road in pairs(ROADS) do
    for _, kind in ipairs({ "put", "remove" }) do
      it(("and stops a %s, on a file system %s"):format(kind, road), function()
        local at = switch_of(kind, road)
        local result = run(kind, "commit", road, at, OVER)
        assert.matches("ECHANGED", result.stdout)
        assert.equal("mine " .. at, helper.read(root .. "/a"))
      end)
    end
  end

  it("a rollback, which tells where it is", function()
    for road in pairs(ROADS) do
      for _, kind in ipairs({ "put", "create" }) do
        local name = NAMES[kind]
        local at
        for _, call in ipairs(run(kind, "rollback", road).calls) do
          local place = call.path == root .. "/" .. name or call.path2 == root .. "/" .. name
          if place and call.name:find("^rename") and call.result == 0 then at = call.n end
        end
        local result = run(kind, "rollback", road, at, (OVER:gsub(" a$", " " .. name)))
        assert.matches("kept\t" .. name .. "%.kept%-", result.stdout, kind .. " " .. road)
        assert.is_true(is_kept("mine " .. at))
      end
    end
  end)

  it("an undo whose data was lost", function()
    local lose = [[
      try(t:put("a", { data = "new" })) try(t:apply())
      try(t:put("a", { data = "newer" })) try(t:apply())
      for _, folder in ipairs({ "undo", "stage" }) do
        for name in require("lfs").dir(ROOT .. "/.upgrade/s/" .. folder) do
          if name == "2" then os.remove(ROOT .. "/.upgrade/s/" .. folder .. "/2") end
        end
      end
      assert(t:rollback()) assert(t:rescue())]]
    QUEUE.lose = ("local ROOT = %q"):format(root) .. lose
    ENDS.lose = ""
    local at
    for _, call in ipairs(run("lose", "lose", "that exchanges names").calls) do
      if (call.path2 or ""):find("/stage/l%d+$") then at = call.n end
    end
    local result = run("lose", "lose", "that exchanges names", at, OVER)
    QUEUE.lose, ENDS.lose = nil, nil
    assert.equal(0, result.code, result.stderr)
    assert.is_true(is_kept("mine " .. at))
  end)

  it("where it is followed by another one, and the last one stays in place", function()
    local at = switch_of("put", "that exchanges names")
    local twice = ("[ $1 != %d ] && [ $1 != %d ] || { %s; }"):format(at, at + 1, OVER)
    run("put", "commit", "that exchanges names", nil, twice)
    assert.equal("mine " .. at + 1, helper.read(root .. "/a"))
  end)

  for road in pairs(ROADS) do
    for kind in pairs(QUEUE) do
      for ending in pairs(ENDS) do
        it(("in a %s and its %s, on a file system %s"):format(kind, ending, road), function()
          local list = moments(kind, ending, road)
          assert.is_true(#list >= 2)
          for how, save in pairs(SAVES) do
            for _, at in ipairs(list) do
              local result = run(kind, ending, road, at, (save:gsub("NAME", NAMES[kind])))
              assert.same({ true, 0 }, { result.hit, result.code }, result.stderr)
              assert.is_true(is_kept("mine " .. at) or result.hooks[1].code ~= 0,
                ("saved %s before call %d, lost:%s"):format(how, at, told(result, at)))
            end
          end
        end)
      end
    end
  end
end)
