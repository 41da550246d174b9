--- What an upgrade refuses before it touches anything: exit 3, a message that says what, where and
-- what to do, and not a byte or a time changed in the project or the source.
local checks = require("spec.support.checks")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local sample = require("spec.support.sample")

-- A version of the target that no source has.
local NEWER = "prAxIs OS Content Version\nCurrent Version: 9.0.0\n"

local function shell(s, script, ...)
  return command.run({ "sh", "-euc", script, "sh", ... }, { scratch = s.scratch })
end

-- How a test gets mounts of its own: as root, or as nobody in particular in a user namespace.
local MOUNTS = (function()
  local scratch = helper.tempdir()
  local found
  for _, flags in ipairs({ "-m", "-Urm" }) do
    local try = { "unshare", flags, "mount", "-t", "tmpfs", "none", scratch }
    if not found and command.run(try, { scratch = scratch }).code == 0 then found = flags end
  end
  helper.clean()
  return found
end)()

-- Each case: what is prepared; the arguments, environment or wrapper that differ; what is said.
local CASES = {
  {
    title = "a source with uncommitted changes",
    prepare = function(s)
      helper.write(s.source .. "/universal/standards/new.md", "not committed\n")
    end,
    says = { "uncommitted", "universal/standards/new.md", "commit" },
  },
  {
    title = "a source that is not a repository",
    prepare = function(s) shell(s, 'rm -rf "$1/.git"', s.source) end,
    says = { "git", "/source" },
  },
  {
    title = "a repository of something else",
    prepare = function(s)
      shell(s, [[
        rm -rf "$1" && git init -q "$1" && cd "$1"
        mkdir mcp_server universal && echo x >README.md
        git add -A && git -c user.name=A -c user.email=a@example.invalid commit -q -m x
      ]], s.source)
    end,
    says = { "/source", "universal" },
  },
  {
    title = "a source that is not there",
    prepare = function(s) shell(s, 'mv "$1" "$1.away"', s.source) end,
    says = { "/source" },
  },
  {
    title = "a source older than the target",
    prepare = function(s) helper.write(s.target .. "/VERSION.txt", NEWER) end,
    says = { "9.0.0", "2.0.0", "--allow-downgrade" },
  },
  {
    title = "a machine without git",
    prepare = function() end,
    options = function(s) return { environment = { PATH = s.base.dir .. "/bin" } } end,
    says = { "git", "PATH" },
  },
  {
    title = "a target that is not there",
    prepare = function() end,
    arguments = { "--target", "not-here" },
    says = { "not-here", "--target" },
  },
  {
    title = "a target of unknown layout",
    prepare = function(s) helper.write(s.project .. "/.other/readme.txt", "something else\n") end,
    arguments = { "--target", ".other" },
    says = { ".other", "standards/universal" },
  },
}

if MOUNTS then
  CASES[#CASES + 1] = {
    title = "a target that cannot be written",
    prepare = function() end,
    options = function(s)
      return { wrap = { "unshare", MOUNTS, "sh", "-euc", [[
        mount --bind "$0" "$0"
        mount -o remount,bind,ro "$0"
        cd "$0/.."
        exec "$@"
      ]], s.target } }
    end,
    says = { "read-only", ".praxis-os" },
  }
end

-- Of a user who is not root the permission bits alone are enough.
CASES[#CASES + 1] = {
  title = "a target that its owner has made read-only (root: a file system mounted so)",
  only = function() return lfs.attributes("/proc/self", "uid") ~= 0 end,
  prepare = function(s) shell(s, 'chmod -R a-w "$1"', s.target) end,
  says = { ".praxis-os" },
  restore = function(s) shell(s, 'chmod -R u+w "$1"', s.target) end,
}

describe("An upgrade refuses", function()
  after_each(function() assert.same({}, sample.clean()) end)

  local function says(result, words)
    local text = checks.text(result)
    for _, word in ipairs(words) do
      assert.truthy(text:find(word, 1, true), ("%q is not said: %s"):format(word, text))
    end
    assert.is_nil(text:find("traceback", 1, true), text)
  end

  for _, case in ipairs(CASES) do
    if not case.only or case.only() then
      it(case.title, function()
        local s = sample.new({ server = false })
        case.prepare(s)
        local project = sample.list(s, "exact")
        local source = lfs.attributes(s.source) and sample.list(s, "exact", s.source)
        local argv = { "upgrade", "--json", "--source", s.source }
        table.move(case.arguments or {}, 1, #(case.arguments or {}), #argv + 1, argv)
        local result = sample.run(s, argv, case.options and case.options(s))
        if case.restore then case.restore(s) end
        result.events = command.events(result.stdout)
        checks.exits(3, result)
        says(result, case.says)
        assert.equal("", sample.differences(s, project, sample.list(s, "exact")))
        if source then
          assert.equal("", sample.differences(s, source, sample.list(s, "exact", s.source)))
        end
      end)
    end
  end

  -- A copy of the project on a file system with just so much room, listed there before and after.
  local function on_small_disk(s, room)
    local script = [[
      mount -t tmpfs -o "$ROOM" none "$HERE"
      cp -a "$PROJECT" "$HERE/project"
      "$PYTHON" "$ORACLE" list --times --all "$HERE/project" >"$RUNS/before.json"
      code=0
      (cd "$HERE/project" && exec "$@") || code=$?
      "$PYTHON" "$ORACLE" list --times --all "$HERE/project" >"$RUNS/after.json"
      exit "$code"
    ]]
    local environment = {
      ROOM = room, HERE = s.root .. "/disk", PROJECT = s.project, RUNS = s.scratch,
      PYTHON = s.base.python, ORACLE = lfs.currentdir() .. "/spec/support/oracle.py",
    }
    lfs.mkdir(environment.HERE)
    local result = sample.run(s, { "upgrade", "--json", "--source", s.source }, {
      wrap = { "unshare", MOUNTS, "/bin/sh", "-euc", script, "sh" },
      environment = environment,
    })
    result.events = command.events(result.stdout)
    checks.exits(3, result)
    local before, after = s.scratch .. "/before.json", s.scratch .. "/after.json"
    assert.equal("", sample.differences(s, before, after))
    return result
  end

  local function used(s)
    local bytes, files = shell(s, [[du -s -B1 "$1" | cut -f1; find "$1" | wc -l]], s.project).stdout
      :match("(%d+)%s+(%d+)")
    return tonumber(bytes), tonumber(files)
  end

  if MOUNTS then
    it("a disk with too little space", function()
      local s = sample.new({ server = false })
      says(on_small_disk(s, ("size=%d"):format(used(s) + 2 * 1024 * 1024)), { "space" })
    end)

    it("a disk with too few inodes", function()
      local s = sample.new({ server = false })
      local _, files = used(s)
      says(on_small_disk(s, ("size=2g,nr_inodes=%d"):format(files + 60)), { "inodes" })
    end)
  end
end)
