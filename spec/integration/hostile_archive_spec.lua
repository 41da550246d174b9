-- Backups that somebody made to do harm, through the real command line: with the manifest of an
-- honest backup that names their archive, and with one that was forged to match it. What makes
-- them, runs praxlua and looks at what it changed is spec/support/hostile.py.
local cjson = require("cjson")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

-- The classes, with the least number of cases in each.
local CLASSES = {
  ["absolute"] = 15, ["attribute"] = 16, ["bad checksum"] = 7, ["case-folding name"] = 5,
  ["control"] = 2, ["deep tree"] = 3, ["duplicate name"] = 9, ["hard link"] = 12,
  ["header size"] = 4, ["many entries"] = 1, ["odd name"] = 25, ["other format"] = 8,
  ["pax size"] = 8, ["ratio bomb"] = 10, ["setuid"] = 4, ["sparse bomb"] = 9,
  ["special file"] = 22, ["symlink then write"] = 24, ["trailing data"] = 10, ["traversal"] = 20,
  ["truncated"] = 15, ["two archives"] = 1,
}
-- Archives that are whole in themselves and only not what a manifest can say. Every other one that
-- is refused is refused already by who reads it.
local LEFT_TO_THE_MANIFEST = {}
for name in ([[
  odd-name.256 odd-name.git-hook odd-name.nul-in-manifest odd-name.our-own
  odd-name.outside-the-scope pax-size.larger pax-size.smaller trailing-data.second-archive
  trailing-data.second-frame truncated.tar-1024 truncated.tar-512
]]):gmatch("%S+") do LEFT_TO_THE_MANIFEST[name] = true end

local SECONDS = 4 -- of CPU time, on a machine that is busy; a quiet one needs a quarter of it
local KILOBYTES = 64 * 1024

describe("a hostile backup #uncounted", function()
  local results, root

  setup(function()
    root = helper.tempdir()
    assert(os.execute("which python3 zstd > /dev/null"), "python3 and zstd are needed")
    assert(os.execute(("python3 spec/support/hostile.py try '%s' '%s' > '%s/results'"):format(root,
      tiny.executable(), root)))
    results = {}
    for _, case in ipairs(cjson.decode(helper.read(root .. "/results"))) do
      results[case.class] = results[case.class] or {}
      table.insert(results[case.class], case)
    end
  end)
  teardown(function()
    assert(os.execute(("rm -rf '%s'"):format(root))) -- deeper than a path may be
    helper.clean()
  end)

  -- What is wrong with one run, as text; nothing when it is good.
  local function problems(case, run)
    local found = {}
    local function unless(good, problem) found[#found + 1] = not good and problem or nil end
    local refused = run.code == (run.verb == "verify" and 1 or 3)
    local whole = case.expect == "whole" and run.manifest == "forged"
    unless(run.code == 0 or refused, "exit code " .. run.code)
    unless(case.expect ~= "refused" or refused, "not refused")
    unless(not whole or run.code == 0, "an honest backup is refused")
    unless(not refused or #run.changed == 0, "changed: " .. table.concat(run.changed, ", "))
    unless(run.verb == "restore" or #run.changed == 0, "verifying changed something")
    unless(#run.outside == 0, "changed outside: " .. table.concat(run.outside, ", "))
    unless(#run.wrong == 0, "restored otherwise: " .. table.concat(run.wrong, ", "))
    unless(run.seconds < SECONDS, "took " .. run.seconds .. " s")
    unless(run.kilobytes < KILOBYTES + 10 * run.manifest_kilobytes, run.kilobytes .. " kB")
    unless(not run.said:find("[%z\1-\9\11-\31\127]"), "control characters in what it says")
    unless(not refused or run.said:find("\n.*next:") or run.said:find("; use another backup"),
      "it does not say what to do")
    return table.concat(found, "; ")
  end

  for class, least in pairs(CLASSES) do
    it("of the class '" .. class .. "' does no harm", function()
      local cases = assert(results[class], "no such case was made")
      assert.is_true(#cases >= least, #cases .. " cases")
      for _, case in ipairs(cases) do
        for _, run in ipairs(case.runs) do
          local found = problems(case, run)
          assert(found == "", ("%s, %s with the %s manifest: %s\n%s"):format(case.name, run.verb,
            run.manifest, found, run.said))
        end
      end
    end)
  end

  it("is tried in every class that there is", function()
    for class in pairs(results) do assert.is_number(CLASSES[class], class) end
  end)

  it("is refused by who reads the archive, whatever a manifest says", function()
    local to = helper.tempdir()
    local limits = { max_bytes = 1 << 20, max_entries = 4000 }
    for _, cases in pairs(results) do
      for _, case in ipairs(cases) do
        local archive = ("%s/cases/%s/backup.tar.zst"):format(root, case.name)
        if case.expect == "refused" then
          local found, _, code = core.archive.read(archive, limits)
          local bad = code == "EBADARCHIVE" or code == "EFBIG"
          local said = case.name .. (found and ": it is read" or "")
          assert(bad == not LEFT_TO_THE_MANIFEST[case.name], said)
          if bad then
            helper.fails(code, core.archive.extract(archive, to, limits))
            assert.same({}, core.tree.list(to), case.name)
          end
        end
      end
    end
  end)

  it("with another archive in it is extracted only into an empty folder", function()
    local to = helper.tempdir()
    helper.write(to .. "/.praxis-os/there", "before\n")
    local archive = root .. "/cases/control.more/backup.tar.zst"
    helper.fails("ENOTEMPTY", core.archive.extract(archive, to))
    assert.equal("before\n", helper.read(to .. "/.praxis-os/there"))
  end)
end)
