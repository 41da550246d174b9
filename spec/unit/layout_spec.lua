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

  it("refuses the flat layout by its name", function()
    local root = helper.tempdir()
    repository.sh("mkdir", "-p", root .. "/standards/ai-assistant", root .. "/workflows",
      root .. "/mcp_server")
    local found, message = layout.recognise_target(root)
    assert.is_nil(found)
    assert.matches("flat layout that safe-upgrade.py leaves", message, 1, true)
    repository.sh("mkdir", root .. "/standards/universal")
    assert.equal(praxis, layout.recognise_target(root))
    assert.same({ "standards/ai-assistant" }, layout.flat_directories(root, praxis))
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
