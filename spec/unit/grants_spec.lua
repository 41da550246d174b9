--- Grants as they are read, typed and compared.
local grants = require("praxlua.grants")
local helper = require("spec.support.helper")

describe("grants", function()
  it("are described on one line", function()
    assert.equal("nothing", grants.describe({ tools = {}, services = {}, network = false }))
    assert.equal("source: read; target: write; services: backup, lock; tools: git; network",
      grants.describe({ source = "read", target = "write", services = { "backup", "lock" },
        tools = { "git" }, network = true }))
  end)

  it("are parsed from flags, which add up", function()
    assert.same({}, grants.parse({}))
    assert.same({ target = "write", tools = { "git", "make", "sed" }, network = true },
      grants.parse({ "target=write", "tools=git,make", "network", "tools=sed", "target=read" }))
    for _, wrong in ipairs({ "", "target", "target=", "target=all", "source=write", "tools=",
      "tools=a,,b", "network=yes", "roots=read", "target=write " }) do
      local message = helper.fails("EINVAL", grants.parse({ wrong }))
      assert.truthy(message:find("'" .. wrong .. "' is no grant", 1, true), message)
    end
  end)

  it("that are missing are told as flags", function()
    local asked = { source = "read", target = "write", project = "read", services = { "backup" },
      tools = { "git", "make" }, network = true }
    assert.same({ "--grant source=read", "--grant target=write", "--grant project=read",
      "--grant services=backup", "--grant tools=git,make", "--grant network" },
      grants.missing(asked, {}))
    assert.same({ "--grant target=write", "--grant tools=make" }, grants.missing(asked, {
      source = "read", target = "read", project = "write", services = { "backup", "lock" },
      tools = { "git" }, network = true }))
    assert.same({}, grants.missing({}, { target = "write" }))
    assert.same({}, grants.missing(asked, asked))
  end)
end)
