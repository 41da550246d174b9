local helper = require("spec.support.helper")
local layout = require("praxlua.layout")
local repository = require("spec.support.repository")

local praxis = layout.by_name("praxis-os")

describe("layout", function()
  after_each(helper.clean)

  it("maps source paths to target paths and back", function()
    local pairs_of_paths = {
      ["universal/standards/a/b.md"] = "standards/universal/a/b.md",
      ["universal/workflows/w/metadata.json"] = "workflows/w/metadata.json",
      ["universal/usage/u.md"] = "usage/u.md",
      ["mcp_server/__main__.py"] = "mcp_server/__main__.py",
      ["scripts/x.py"] = "scripts/x.py",
    }
    for source, target in pairs(pairs_of_paths) do
      assert.equal(target, (layout.target_path(praxis, source)))
      assert.equal(source, layout.source_path(praxis, target))
    end
  end)

  it("ships nothing from outside of the components, and no caches", function()
    for _, path in ipairs({ "README.md", "universal/templates/t.md", "universal/standards",
      "universal/standards-old/x.md", "mcp_server/__pycache__/a.pyc", "mcp_server/a.pyc",
      "mcp_server/.praxis-os/x" }) do
      assert.is_nil(layout.target_path(praxis, path), path)
    end
    assert.is_nil(layout.component_of(praxis, "standards/development/x.md"))
    assert.is_nil(layout.component_of(praxis, "config.json"))
  end)

  it("knows what is not content", function()
    for _, path in ipairs({ ".cache/x", "venv/bin/python", ".backups/2025", ".upgrade-lock",
      "mcp_server/a/__pycache__/b.pyc" }) do
      assert.is_true(layout.is_ephemeral(praxis, path), path)
    end
    assert.is_false(layout.is_ephemeral(praxis, "specs/venv/x"))
    assert.is_true(layout.ephemeral[".upgrade"])
  end)

  it("recognises a source by its manifest or by its standards", function()
    local source = repository.source()
    assert.equal(praxis, layout.recognise_source(source))
    repository.sh("rm", "-r", source .. "/universal/standards/ai-assistant")
    assert.is_nil(layout.recognise_source(source))
    helper.write(source .. "/universal/.universal-manifest.json", "{ not json")
    assert.is_nil(layout.recognise_source(source))
    helper.write(source .. "/universal/.universal-manifest.json", '{"version":"1","files":{}}')
    assert.equal(praxis, layout.recognise_source(source))
  end)

  it("does not take empty files or directories for a source", function()
    local root = helper.tempdir()
    helper.write(root .. "/universal", "")
    helper.write(root .. "/mcp_server", "")
    local found, message, code = layout.recognise_source(root)
    assert.is_nil(found)
    assert.equal("ELAYOUT", code)
    assert.matches("looked for universal/standards and universal/workflows", message, 1, true)
    local other = helper.tempdir()
    repository.sh("mkdir", "-p", other .. "/universal/standards/ai-assistant",
      other .. "/universal/workflows")
    found, message = layout.recognise_source(other)
    assert.is_nil(found)
    assert.matches("universal/standards holds no file", message, 1, true)
  end)

  it("recognises a target by the least that proves one", function()
    local root = helper.tempdir()
    local one, two, three = root .. "/one", root .. "/two", root .. "/three"
    repository.sh("mkdir", "-p", one .. "/standards/universal", two .. "/workflows",
      two .. "/mcp_server", three .. "/workflows")
    assert.equal(praxis, layout.recognise_target(one))
    assert.equal(praxis, layout.recognise_target(two))
    local found, message, code = layout.recognise_target(three)
    assert.is_nil(found)
    assert.equal("ELAYOUT", code)
    assert.matches("mcp_server is missing", message, 1, true)
    assert.matches("workflows is a directory", message, 1, true)
  end)

  it("refuses a target that is missing or a file", function()
    local root = helper.tempdir()
    local found, message = layout.recognise_target(root .. "/none")
    assert.is_nil(found)
    assert.matches("it is missing", message, 1, true)
    helper.write(root .. "/file", "")
    found, message = layout.recognise_target(root .. "/file")
    assert.is_nil(found)
    assert.matches("--target", message, 1, true)
  end)

  -- What each layout looks like, least of all.
  local FIXTURES = {
    ["praxis-os"] = { ".praxis-os", { "standards/universal/a.md", "workflows/w.md",
      "mcp_server/__init__.py" } },
    ["agent-os"] = { ".agent-os", { "standards/universal/a.md", "workflows/w.md",
      "mcp_server/__init__.py" } },
    ["ouroboros"] = { ".praxis-os", { "standards/universal/a.md", "workflows/w.md",
      "ouroboros/__main__.py", "config/mcp.yaml" } },
    ["praxis-os-flat"] = { ".praxis-os", { "standards/ai-assistant/a.md", "workflows/w.md",
      "usage/u.md" } },
  }

  local function installed(name, files)
    local target = helper.tempdir() .. "/" .. name
    for _, path in ipairs(files) do helper.write(target .. "/" .. path, "x") end
    return target
  end

  local function recognised(target)
    local found, message, code = layout.recognise_target(target)
    if found then return found.name end
    assert.equal("ELAYOUT", code)
    return nil, message
  end

  it("recognises each layout, and finds it again by its name", function()
    for name, fixture in pairs(FIXTURES) do
      assert.equal(name, recognised(installed(fixture[1], fixture[2])))
      assert.equal(name, layout.by_name(name).name)
    end
    assert.is_nil(layout.by_name("another"))
    for _, known in ipairs(layout.layouts) do assert.truthy(FIXTURES[known.name], known.name) end
  end)

  it("goes by the folder's name only where the content leaves it open", function()
    assert.equal("praxis-os-flat", recognised(installed(".agent-os",
      FIXTURES["praxis-os-flat"][2])))
    assert.equal("praxis-os", recognised(installed("anything", FIXTURES["agent-os"][2])))
  end)

  it("takes files for proof, not empty folders", function()
    local target = installed(".praxis-os", { "workflows/w.md", "mcp_server/__init__.py" })
    repository.sh("mkdir", "-p", target .. "/standards/ai-safety", target .. "/ouroboros")
    helper.write(target .. "/ouroboros/__pycache__/a.pyc", "")
    assert.equal("praxis-os", recognised(target))
    helper.write(target .. "/standards/ai-safety/a.md", "")
    assert.equal("praxis-os-flat", recognised(target))
    repository.sh("mkdir", target .. "/standards/universal")
    assert.equal("praxis-os-flat", recognised(target))
    helper.write(target .. "/standards/universal/a.md", "")
    assert.equal("praxis-os", recognised(target))
    assert.same({ "standards/ai-safety" }, layout.flat_directories(target, praxis))
  end)

  it("takes a folder that only has a server's name for the user's", function()
    local target = installed(".praxis-os", { "standards/universal/a.md", "workflows/w.md",
      "ouroboros/notes.md", "mcp_server/__init__.py" })
    assert.equal("praxis-os", recognised(target))
  end)

  it("refuses one with the servers of two layouts, and names both", function()
    local target = installed(".praxis-os", { "standards/universal/a.md", "workflows/w.md",
      "ouroboros/__main__.py", "mcp_server/__init__.py" })
    local name, message = recognised(target)
    assert.is_nil(name)
    assert.matches("two layouts, mcp_server and ouroboros", message, 1, true)
  end)

  it("refuses halves of a layout, and tells what is missing", function()
    for missing, files in pairs({
      ["workflows is missing"] = { "mcp_server/__init__.py" },
      ["mcp_server is missing"] = { "workflows/w.md" },
      ["standards/universal is missing"] = { "ouroboros/__main__.py" },
      ["ouroboros is missing"] = { "standards/development/mine.md", "config/mcp.yaml" },
      ["mcp_server is not a directory"] = { "workflows/w.md", "mcp_server" },
      ["files in ouroboros, which that layout does not have"] = { "ouroboros/__main__.py" },
    }) do
      local name, message = recognised(installed(".praxis-os", files))
      assert.is_nil(name)
      assert.matches(missing, message, 1, true)
    end
    assert.is_nil(recognised(installed(".praxis-os", { "standards/ai-assistant/mine.md" })))
  end)

  it("refuses links in the place of folders", function()
    local target = installed(".praxis-os", { "elsewhere/a.md", "standards/x.md" })
    for _, path in ipairs({ "standards/universal", "workflows", "mcp_server" }) do
      repository.sh("ln", "-s", target .. "/elsewhere", target .. "/" .. path)
    end
    local name, message = recognised(target)
    assert.is_nil(name)
    assert.matches("standards/universal is a link, workflows is a link, mcp_server is a link",
      message, 1, true)
  end)

  it("tells of names in another case", function()
    local name, message = recognised(installed(".praxis-os", { "Workflows/w.md",
      "mcp_server/__init__.py" }))
    assert.is_nil(name)
    assert.matches("workflows is missing (Workflows is there, in another case)", message, 1, true)
  end)

  it("tells the sources of the two servers apart", function()
    local source = repository.source()
    helper.write(source .. "/dist/ouroboros/__main__.py", "")
    local later = layout.recognise_source(source)
    assert.equal("ouroboros", later.name)
    for name, fits in pairs({ ["praxis-os"] = false, ["agent-os"] = false, ouroboros = true,
      ["praxis-os-flat"] = false }) do
      assert.equal(fits, layout.fits(later, layout.by_name(name)), name)
      assert.equal(not fits, layout.fits(praxis, layout.by_name(name)), name)
    end
  end)

  it("maps the paths of the later layout", function()
    local later = layout.by_name("ouroboros")
    assert.equal("ouroboros/tools/x.py", (layout.target_path(later, "dist/ouroboros/tools/x.py")))
    assert.equal("dist/ouroboros/x.py", layout.source_path(later, "ouroboros/x.py"))
    assert.is_nil(layout.target_path(later, "mcp_server/x.py"))
    assert.is_nil(layout.component_of(later, "config/mcp.yaml"))
  end)

  it("has what lies flat come from where it belongs now, and leaves the project's own", function()
    local flat = layout.by_name("praxis-os-flat")
    assert.equal("standards/universal/a/b.md",
      (layout.target_path(flat, "universal/standards/a/b.md")))
    assert.equal("standards/a/b.md", layout.former_path(flat, "standards/universal/a/b.md"))
    assert.is_nil(layout.former_path(flat, "workflows/a/b.md"))
    assert.is_nil(layout.former_path(praxis, "standards/universal/a/b.md"))
    assert.equal("standards/universal/a/b.md", layout.later_path(flat, "standards/a/b.md"))
    assert.is_nil(layout.later_path(flat, "standards/universal/a/b.md"))
    assert.is_nil(layout.later_path(praxis, "standards/a/b.md"))
    assert.equal("universal/standards/a/b.md", layout.source_path(flat, "standards/a/b.md"))
    assert.equal("standards", layout.component_of(flat, "standards/universal/a/b.md").name)
    assert.equal("flat-standards", layout.component_of(flat, "standards/a/b.md").name)
    assert.is_nil(layout.component_of(flat, "standards/development/b.md"))
  end)

  it("knows the server of an installation before its layout is known", function()
    local target = installed(".praxis-os", FIXTURES.ouroboros[2])
    assert.equal("ouroboros", layout.server_of({ target = target }).module)
    assert.equal("mcp_server", layout.server_of({ target = helper.tempdir() }).module)
    assert.equal("mcp_server", layout.server_of({ target = target, layout = praxis }).module)
  end)

  it("upgrades scripts only where they are installed", function()
    local root = helper.tempdir()
    local function has_scripts()
      for _, component in ipairs(layout.components_for(praxis, root)) do
        if component.name == "scripts" then return true end
      end
      return false
    end
    assert.is_false(has_scripts())
    repository.sh("mkdir", root .. "/scripts")
    assert.is_true(has_scripts())
  end)

  it("reads a version from VERSION.txt, else the manifest, else pyproject.toml", function()
    local source = repository.source({
      ["universal/.universal-manifest.json"] = '{"version":"1.4.0-dev","files":{}}',
      ["pyproject.toml"] = '[build-system]\nversion = "9"\n[project]\nversion = "1.2.3"\n',
    })
    assert.equal("1.0.0", (layout.source_version(source, praxis)))
    os.remove(source .. "/VERSION.txt")
    assert.equal("1.4.0-dev", (layout.source_version(source, praxis)))
    os.remove(source .. "/universal/.universal-manifest.json")
    assert.same({ "1.2.3", "pyproject.toml" }, { layout.source_version(source, praxis) })
    os.remove(source .. "/pyproject.toml")
    assert.is_nil(layout.source_version(source, praxis))
  end)

  it("finds the version in each known form of VERSION.txt", function()
    assert.equal("v1.3.0", layout.version_in("Title\r\nPrevious Version: v1.2\r\n"
      .. "Current Version: v1.3.0\r\nversion_updated=2025\r\n"))
    assert.equal("2.0", layout.version_in("name=x\nversion=2.0\n"))
    assert.equal("1.2.3-rc1", layout.version_in("1.2.3-rc1"))
    assert.is_nil(layout.version_in("version_updated=2025-10-09\ncommit=2b02a66\n"))
    assert.equal("2.0", layout.version_in("Current Version: 1.0\nx\nCurrent Version: 2.0\n"))
    assert.equal("2.0", layout.version_in("version=1.0\nversion=2.0\n"))
  end)
end)
