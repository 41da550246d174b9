--- What the output of pip and uv means: the known ways in which an installation fails, named, each
-- with what to do next. The output itself is for people and changes between versions, so what is
-- not recognised is quoted, never guessed. The words of uv are those of its version 0.13.
local text = require("praxlua.text")

local failures = {}

local QUOTED_LINES = 3
local LONGEST_QUOTE = 300

-- In order: a cause comes before what follows from it (without a network pip also "finds no
-- matching distribution"), and what no network brings about before a network that failed at first.
-- A pattern's capture goes into the message.
local KNOWN = {
  {
    kind = "disk_full",
    patterns = { "[Nn]o space left on device", "%[Errno 28%]", "Disk quota exceeded" },
    message = "the disk is full",
    next = "Free some space (old backups: praxlua backup prune) and run the upgrade again",
  },
  {
    kind = "certificate",
    patterns = {
      "CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "invalid peer certificate",
    },
    message = "the package index's certificate is not trusted",
    next = "Behind a proxy that inspects traffic, set SSL_CERT_FILE or PIP_CERT to its certificate",
  },
  {
    kind = "hash_mismatch",
    patterns = { "DO NOT MATCH THE HASHES", "Hash mismatch for" },
    message = "a downloaded package is not the one that was locked",
    next = "Do not install it. Look at the hashes in the server's requirements.txt, and at the "
      .. "index",
  },
  {
    kind = "version_conflict",
    patterns = { "ResolutionImpossible", "conflicting dependencies" },
    message = "the requirements contradict each other",
    next = "Look at the versions in the server's requirements.txt in the source",
  },
  {
    kind = "no_network",
    patterns = {
      "Temporary failure in name resolution", "Name or service not known",
      "Failed to establish a new connection", "Network is unreachable", "ConnectTimeoutError",
      "Read timed out", "ProxyError", "Connection refused", "Connection aborted",
      "No route to host", "Max retries exceeded", "error sending request for url",
    },
    message = "the package index cannot be reached",
    next = "Check the network and the proxy (HTTPS_PROXY, PIP_INDEX_URL), then run it again; "
      .. "without a network, set PIP_NO_INDEX=1 and PIP_FIND_LINKS to a directory of wheels",
  },
  {
    kind = "python_version",
    patterns = {
      "requires a different Python: ([^\n]+)", "Requires%-Python ([^\n]+)",
      "cause: Because [^\n]- requires Python (%S+) and",
    },
    message = "a package needs another version of Python: %s",
    next = "Remove the venv and let the upgrade make it with a Python that fits",
  },
  {
    kind = "no_such_package",
    patterns = {
      "No matching distribution found for ([^\n]+)",
      "Could not find a version that satisfies the requirement ([^\n]+)",
      "Because (%S+) was not found in", "Because there is no version of (%S+)",
    },
    message = "there is no such package or version: %s",
    next = "Check the name and version in the server's requirements.txt, and that the index pip "
      .. "uses (PIP_INDEX_URL) can be reached and has it for this version of Python",
  },
  {
    kind = "version_conflict",
    patterns = { "No solution found when resolving" },
    message = "the requirements contradict each other",
    next = "Look at the versions in the server's requirements.txt in the source",
  },
  {
    kind = "externally_managed",
    patterns = { "externally%-managed%-environment", "is externally managed" },
    message = "the environment belongs to the system's package manager",
    next = "The installation's venv is no environment of its own: move it away, a new one is made",
  },
  {
    kind = "build_failed",
    patterns = {
      "Failed building wheel for ([^\n]+)", "Failed to build ([^\n]+)",
      "Failed to download and build ([^\n]+)",
      "subprocess%-exited%-with%-error", "metadata%-generation%-failed",
    },
    message = "a package could not be built%s",
    optional_capture = ": %s",
    next = "Install the compiler and headers it needs, or a Python for which there is a wheel",
  },
  {
    kind = "bad_requirements",
    patterns = { "Invalid requirement: ([^\n]+)", "Couldn't parse requirement in ([^\n]+)" },
    message = "a line of requirements.txt is not understood: %s",
    next = "Correct the server's requirements.txt in the source",
  },
  {
    kind = "no_pip",
    patterns = { "No module named pip", "ensurepip is not available", "No module named ensurepip" },
    message = "this Python has no pip, and no module to make one",
    next = "Install the system's package for it (Debian: apt install python3-venv)",
  },
  {
    kind = "not_permitted",
    patterns = { "Permission denied", "%[Errno 13%]" },
    message = "the environment cannot be written",
    next = "Run the upgrade as the owner of the installation",
  },
}

local function shorten(s)
  s = text.trim(s)
  if #s > LONGEST_QUOTE then s = s:sub(1, LONGEST_QUOTE) .. "…" end
  return text.visible(s)
end

local function match(entry, output)
  for _, pattern in ipairs(entry.patterns) do
    local from, _, capture = output:find(pattern)
    if from then return true, capture end
  end
  return false
end

local function describe(entry, capture)
  capture = capture and shorten(capture) or ""
  if entry.optional_capture then
    capture = capture ~= "" and entry.optional_capture:format(capture) or ""
  end
  return entry.message:find("%s", 1, true) and entry.message:format(capture) or entry.message
end

-- The last lines that pip itself marks as errors, else the last lines.
local function quote(output)
  local marked, all = {}, {}
  for line in output:gmatch("[^\r\n]+") do
    if line:find("%S") then
      all[#all + 1] = shorten(line)
      if line:find("^%s*ERROR:") or line:find("^%w*Error:") then marked[#marked + 1] = all[#all] end
    end
  end
  local lines = #marked > 0 and marked or all
  return table.concat(lines, " | ", math.max(1, #lines - QUOTED_LINES + 1))
end

--- The failures an output tells of: the first known cause, else the output's own words.
---@param output string
---@param what string the step that failed ("pip install")
---@param status integer its exit code
---@return table[] failures { kind, message, next }, at least one
function failures.explain(output, what, status)
  for _, entry in ipairs(KNOWN) do
    local found, capture = match(entry, output)
    if found then
      local message = ("%s failed: %s"):format(what, describe(entry, capture))
      return { { kind = entry.kind, message = message, next = entry.next } }
    end
  end
  local said = quote(output)
  local message = ("%s failed with exit code %d"):format(what, status or -1)
  if said ~= "" then message = message .. ": " .. said end
  local next_step = "Read the message, and run the step again by hand to see all of it"
  return { { kind = "unknown", message = message, next = next_step } }
end

--- The failure of a step that took too long.
---@param what string
---@param seconds number its limit
---@return table failure { kind, message, next }
function failures.timed_out(what, seconds)
  return {
    kind = "timed_out",
    message = ("%s was stopped after %d s"):format(what, math.floor(seconds)),
    next = "Check the network; a slow one may need PIP_FIND_LINKS with wheels fetched before",
  }
end

--- The failures of a program that ended with something else than 0, or was stopped.
---@param result table of process.run
---@param what string the step
---@param seconds number its limit
---@return table[] failures at least one
function failures.of(result, what, seconds)
  if result.timed_out then return { failures.timed_out(what, seconds) } end
  return failures.explain(result.stderr .. "\n" .. result.stdout, what, result.code)
end

--- What pip complains about although it succeeded: packages in the environment that do not fit what
--- was installed.
---@param output string standard error
---@return string[] warnings
function failures.warnings(output)
  local found = {}
  for line in output:gmatch("[^\r\n]+") do
    local conflict = line:match("^%s*(%S+ %S+ requires .+, but you .+)$")
      or line:match("^%s*(%S+ %S+ has requirement .+, but you .+)$")
    if conflict then found[#found + 1] = shorten(conflict) end
  end
  return found
end

return failures
