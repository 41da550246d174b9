--- core.hash: against coreutils, git and the published vectors.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

local hash = core.hash

local EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

-- Bytes that look random, the same in every run.
local function noise(size)
  local state, bytes = 1, {}
  for i = 1, size do
    state = (state * 1103515245 + 12345) & 0x7fffffff
    bytes[i] = string.char(state >> 16 & 255)
  end
  return table.concat(bytes)
end

local function output_of(line)
  local pipe = assert(io.popen(line))
  local output = pipe:read("a")
  assert(pipe:close(), line)
  return output:match("^%x+")
end

-- Around the block sizes of the digest, of the reads and of the pages.
local SIZES = { 0, 1, 55, 56, 63, 64, 65, 4095, 4096, 32767, 32768, 32769, 131071, 131072, 300000 }

describe("core.hash", function()
  local directory, descriptors
  before_each(function()
    directory = helper.tempdir()
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  it("gives the published SHA-256 vectors (FIPS 180-4)", function()
    assert.equal(EMPTY, hash.sha256(""))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      hash.sha256("abc"))
    assert.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
      hash.sha256(("a"):rep(1000000)))
  end)

  it("hashes files as sha256sum does, and tells their size", function()
    local data = noise(SIZES[#SIZES])
    local path = directory .. "/file"
    for _, size in ipairs(SIZES) do
      helper.write(path, data:sub(1, size))
      local hex, length = hash.file(path)
      assert.equal(output_of("sha256sum < " .. command.quote(path)), hex)
      assert.equal(size, length)
      assert.equal(hex, hash.sha256(data:sub(1, size)))
    end
  end)

  it("names blobs as git does", function()
    local data = noise(SIZES[#SIZES])
    local path = directory .. "/file"
    for _, size in ipairs(SIZES) do
      helper.write(path, data:sub(1, size))
      local expected = output_of("git hash-object --no-filters " .. command.quote(path))
      assert.equal(expected, hash.git_blob(path))
      assert.equal(expected, hash.git_blob_data(data:sub(1, size)))
    end
  end)

  it("does not convert line endings for git", function()
    helper.write(directory .. "/crlf", "a\r\nb\r\n")
    assert.equal(output_of("git hash-object --no-filters " .. directory .. "/crlf"),
      hash.git_blob(directory .. "/crlf"))
  end)

  it("takes a stream in pieces of any size, NUL bytes too", function()
    local data = noise(5000) .. ("\0"):rep(100)
    for _, piece in ipairs({ 1, 7, 64, 4999 }) do
      local stream = hash.new()
      for at = 1, #data, piece do
        assert.equal(stream, stream:update(data:sub(at, at + piece - 1)))
      end
      assert.equal(hash.sha256(data), stream:hex())
    end
    assert.equal(EMPTY, hash.new():hex())
  end)

  it("ends a stream with its digest; using it then is misuse", function()
    local stream = hash.new()
    stream:hex()
    assert.has_error(function() stream:update("x") end)
    assert.has_error(function() stream:hex() end)
    local closed = hash.new()
    do
      local until_here <close> = closed
      until_here:update("x")
    end
    assert.has_error(function() closed:hex() end)
    assert.has_error(function() hash.new().update({}, "x") end)
  end)

  for _, name in ipairs({ "file", "git_blob" }) do
    describe(name, function()
      it("refuses what is not a regular file, without waiting for it", function()
        local path = directory .. "/x"
        helper.write(directory .. "/real", "x")
        for _, make in ipairs({ "mkdir %s", "mkfifo %s", "ln -s real %s", "ln -s nowhere %s" }) do
          assert(os.execute(make:format(path)))
          local hex, message, code = hash[name](path)
          assert.is_nil(hex)
          assert.equal("ENOTREG", code)
          assert.truthy(message:find("open " .. path, 1, true), message)
          assert(os.execute("rm -rf " .. path))
        end
        assert.equal("ENOTREG", select(3, hash[name]("/dev/null")))
      end)

      it("says what is missing", function()
        local hex, message, code = hash[name](directory .. "/none")
        assert.is_nil(hex)
        assert.equal("ENOENT", code)
        assert.equal("open " .. directory .. "/none: No such file or directory", message)
      end)

      it("raises for a path with a NUL", function()
        assert.has_error(function() hash[name]("/etc/hostname\0x") end)
        assert.has_error(function() hash[name]("") end)
        assert.has_error(function() hash[name]({}) end)
      end)
    end)
  end

  it("notices a file that has not the size it said", function()
    -- Files of /proc say 0 and give more: as a file that grows while git's header is long done.
    assert.equal("ECHANGED", select(3, hash.git_blob("/proc/version")))
  end)
end)
