--- The UpgradeReport for people, as markdown in which nothing from outside is anything but text.
local clock = require("praxlua.clock")
local origin = require("praxlua.origin")
local text = require("praxlua.text")

local markdown = {}

--- The most names a list shows.
markdown.MAX_NAMES = 200

--- The kinds of change, in the order the report lists them, with their headings.
local CHANGES = {
  { "added", "Added" }, { "updated", "Updated" }, { "merged", "Merged with your changes" },
  { "removed", "Removed" }, { "kept", "Kept as you changed them" }, { "conflicts", "Conflicts" },
}

--- Text from outside as markdown that is only text: on one line, no link, no tag, no table cell.
---@param s string
---@return string
function markdown.plain(s)
  return (text.visible(s):gsub("[\\`%[<|*]", "\\%0"):gsub("^[#>+=~-]", "\\%0"))
end

--- A name as a code span. The fence is longer than any run of backquotes in the name.
---@param s string
---@return string
function markdown.code(s)
  s = text.visible(s)
  local longest = 0
  for run in s:gmatch("`+") do longest = math.max(longest, #run) end
  if longest == 0 then return "`" .. s .. "`" end
  local fence = string.rep("`", longest + 1)
  return fence .. " " .. s .. " " .. fence
end

local plain, code = markdown.plain, markdown.code

local function versions(r)
  if r.from_version == "" and r.to_version == "" then return "" end
  local from = r.from_version ~= "" and r.from_version or "an unknown version"
  local to = r.to_version ~= "" and r.to_version or "an unknown version"
  if from == to then return " at " .. plain(to) end
  return string.format(" from %s to %s", plain(from), plain(to))
end

--- The outcome in one sentence.
---@param r table report
---@return string markdown
function markdown.result(r)
  local took = clock.seconds(r.duration_seconds)
  if r.success and not r.rollback_performed then
    return string.format("Upgraded%s and validated in %s.", versions(r), took)
  elseif r.rollback_performed and r.success then
    return string.format("The upgrade%s was taken back in %s; the installation is as before.",
      versions(r), took)
  elseif r.rollback_performed then
    return string.format("The upgrade%s failed after %s and was rolled back; the installation is "
      .. "as before.", versions(r), took)
  end
  return string.format("The upgrade%s was not completed (%s).", versions(r), took)
end

local function add_section(out, title, lines)
  if #lines == 0 then return end
  out[#out + 1] = "\n## " .. title .. "\n\n"
  out[#out + 1] = table.concat(lines, "\n") .. "\n"
end

local function bullets(list, format)
  local lines = {}
  for _, item in ipairs(list or {}) do lines[#lines + 1] = "- " .. format(item) end
  return lines
end

local function phase_rows(r)
  local rows = {}
  for _, phase in ipairs(r.phases or {}) do
    rows[#rows + 1] = string.format("| %s | %s | %s | %s | %s |",
      phase.number and tostring(phase.number) or "", plain(phase.title), plain(phase.verdict),
      clock.seconds(phase.seconds),
      plain(r.phase_summaries[tostring(phase.number or phase.id)] or ""))
  end
  if #rows == 0 then return rows end
  table.insert(rows, 1, "| | Phase | Verdict | Time | What it did |")
  table.insert(rows, 2, "|--:|:--|:--|--:|:--|")
  return rows
end

local RESOLVED = {
  ours = "yours was kept", theirs = "the new one was taken, yours is in the backup",
  merged = "merged by hand",
}
local DECIDED = { answer = "as you answered", remembered = "as you answered last time",
  policy = "by policy" }

-- Why a file is in a list; of a conflict also what became of it, and who decided so.
local function reason_of(change)
  local reason = change.reason and change.reason ~= "" and plain(change.reason) or nil
  local resolved = RESOLVED[change.resolution]
  if not resolved then return reason end
  local decided = change.decided_by and " (" .. DECIDED[change.decided_by] .. ")" or ""
  return (reason and reason .. "; " or "") .. resolved .. decided
end

local function change_lines(changes)
  local out = {}
  for _, kind in ipairs(CHANGES) do
    local list = changes and changes[kind[1]] or {}
    if #list > 0 then
      out[#out + 1] = (#out > 0 and "\n" or "") .. string.format("### %s (%d)\n", kind[2], #list)
      for i = 1, math.min(#list, markdown.MAX_NAMES) do
        local reason = reason_of(list[i])
        out[#out + 1] = "- " .. code(list[i].path) .. (reason and ": " .. reason or "")
      end
      local rest = #list - markdown.MAX_NAMES
      if rest > 0 then
        out[#out + 1] = string.format("- and %d more %s", rest, rest == 1 and "file" or "files")
      end
    end
  end
  return out
end

--- What the server answered, in one sentence.
---@param server table?
---@return string|nil
function markdown.server(server)
  if not server then return nil end
  if not server.answered then
    return "The server did not answer" .. (server.detail and ": " .. plain(server.detail) or ".")
  end
  local parts = {}
  if server.version then parts[#parts + 1] = "version " .. plain(server.version) end
  if server.tools then parts[#parts + 1] = text.plural(server.tools, "tool") end
  if server.transport then parts[#parts + 1] = "over " .. plain(server.transport) end
  if server.detail then parts[#parts + 1] = plain(server.detail) end
  return "The server answered" .. (#parts > 0 and ": " .. table.concat(parts, ", ") or "") .. "."
end

local function facts(r)
  local lines = {}
  local function fact(name, value)
    if value and value ~= "" then lines[#lines + 1] = "- " .. name .. ": " .. value end
  end
  local function spanned(value) return value and value ~= "" and code(value) end
  fact("Session", code(r.session_id))
  fact("Started", plain(r.started_at))
  fact("Completed", plain(r.completed_at))
  fact("Source", spanned(r.source))
  fact("Commit", spanned(r.commit))
  fact("Target", spanned(r.target))
  fact("Backup", spanned(r.backup_path))
  fact("What was shipped before is known", r.base_from and origin.describe(r.base_from))
  return lines
end

local function failure_lines(failure)
  if not failure then return {} end
  local lines = { "- What: " .. plain(failure.what) }
  if failure.where then lines[#lines + 1] = "- Where: " .. plain(failure.where) end
  if failure.next then lines[#lines + 1] = "- Next: " .. plain(failure.next) end
  return lines
end

local function next_steps(r)
  if r.next_steps and #r.next_steps > 0 then return bullets(r.next_steps, plain) end
  if r.success and not r.rollback_performed then
    return {
      "- Nothing has to be done. To go back to the old version: "
        .. code("praxlua rollback " .. r.session_id),
    }
  elseif r.rollback_performed then
    return { "- Remove the cause named above, then run the upgrade again." }
  end
  return { "- " .. code("praxlua status") .. " says whether something is still open." }
end

--- The report for people.
---@param r table an UpgradeReport
---@return string markdown
function markdown.write(r)
  local out = { "# Upgrade report\n\n", "**" .. markdown.result(r) .. "**\n\n" }
  out[#out + 1] = table.concat(facts(r), "\n") .. "\n"
  add_section(out, "What went wrong", failure_lines(r.failure))
  add_section(out, "Phases", phase_rows(r))
  local changed = change_lines(r.changes)
  if #changed == 0 and r.success then changed = { "No file was changed." } end
  add_section(out, "What changed", changed)
  add_section(out, "Server", { markdown.server(r.server) })
  add_section(out, "Issues", bullets(r.issues_encountered, plain))
  add_section(out, "Warnings", bullets(r.warnings, plain))
  add_section(out, "What to do next", next_steps(r))
  return table.concat(out)
end

return markdown
