--- What a phase script finds around it, described as data: each verb, the types it deals in, the
--- names of the prelude and those of the standard library that are left.
--
-- `praxlua phase check` knows from here what a script may name; `make docs-api` writes
-- docs/phase-api.md and the annotations for the Lua language server from it; a spec compares it
-- with what a worker really finds. The texts are Markdown of one paragraph.
local reference = {}

--- What a type or an argument is: { name, type, text, optional = true? }.
---@alias praxlua.reference.Field { [1]: string, [2]: string, [3]: string, optional: boolean? }

---@class praxlua.reference.Verb
---@field args praxlua.reference.Field[]
---@field returns { [1]: string, [2]: string }[] type and text of each result
---@field fails boolean whether it can return nil, a message and a code
---@field grant { [1]: string, [2]: string }|nil field of the grants and the value it needs
---@field errors string[] codes, each with its meaning
---@field doc string
---@field when "always"|"acting"|"changing" see reference.WHEN

--- When a verb may be called.
reference.WHEN = {
  always = "at any time",
  acting = "after `pre-flight-checks`",
  changing = "after `backup-preparation` and before the end of `cleanup-documentation`",
}

--- The groups of verbs, in the order of the pages.
reference.GROUPS = {
  { "source", "Reading the source", "Files beneath the source repository that is upgraded from." },
  { "target", "The installation", "Files beneath the installation (`.praxis-os`). What is changed "
    .. "is part of the upgrade's transaction, and undone with it." },
  { "project", "The project", "Files beneath the folder that holds the installation, likewise." },
  { "", "Tools, questions, messages", "The verbs that stand alone." },
  { "json", "JSON", "Needs no grant." },
  { "validation", "Service `validation`", "The checks of phase 0 and 3." },
  { "backup", "Service `backup`", "Backups of the installation." },
  { "content", "Service `content`", "The plan of the content, and carrying it out." },
  { "dependencies", "Service `dependencies`", "The packages of the server." },
  { "server", "Service `server`", "The MCP server of this installation." },
  { "report", "Service `report`", "What is written down about an upgrade." },
  { "lock", "Service `lock`", "The text of the lock, for people and other tools." },
}

-- ---------------------------------------------------------------------------------------------
-- Types

--- The tables that verbs take and return, by name.
---@type table<string, { doc: string, fields: praxlua.reference.Field[] }>
reference.TYPES = {}

local function optional(name, of, text) return { name, of, text, optional = true } end

local function type_of(name, doc, fields) reference.TYPES[name] = { doc = doc, fields = fields } end

local problems = {
  { "problems", "string[]", "what has to be mended first" },
  { "warnings", "string[]", "what a person should know" },
}

local NOT_RUN = { "not_run", "string?", "`dry_run` in a dry run, which does not do it" }

type_of("Entry", "One name in a folder.", {
  { "name", "string", "without the folder" },
  { "type", '"file"|"directory"|"link"|"other"', "of the entry itself" },
})
type_of("Command", "A command: its words, one after the other, and how it runs.", {
  { "[integer]", "string|number", "the tool, by the name that was granted, then its arguments" },
  optional("stdin", "string", "what it reads; nothing when nil"),
  optional("timeout", "number", "seconds after which it is ended; 60 when nil, at most 3600"),
})
type_of("Ended", "How a tool ended. A code that is not 0 is no error of the call.", {
  optional("code", "integer", "its exit code; nil when a signal ended it, or its time was over"),
  optional("signal", "integer", "the signal that ended it"),
  { "stdout", "string", "what it wrote, cut after the first MiB" },
  { "stderr", "string", "likewise" },
  { "timed_out", "boolean", "it was ended because its time was over" },
  { "truncated", "boolean", "more was written than is here" },
  { "seconds", "number", "how long it ran" },
  NOT_RUN,
})
type_of("SourceFound", "What the source is.", {
  { "valid", "boolean", "an upgrade may come from it" },
  { "path", "string", "absolute" },
  { "version", "string", "of the source" },
  { "commit", "string", "checked out, in hex" },
  { "branch", "string?", "checked out; nil where none is" },
  { "clean", "boolean", "nothing is uncommitted" },
  problems[1], problems[2],
})
type_of("TargetFound", "What the installation is.", {
  { "valid", "boolean", "its layout is known" },
  { "path", "string", "absolute" },
  { "layout", "string?", "the layout's name" },
  { "version", "string?", "installed" },
  { "commit", "string?", "it came from" },
  problems[1], problems[2],
})
type_of("Checked", "What a check found.", {
  { "valid", "boolean", "nothing is in the way" },
  { "path", "string", "what was looked at" },
  problems[1], problems[2],
})
type_of("BackupsFound", "The backups there are.", {
  { "count", "integer", "how many" },
  { "newest", "string?", "name of the newest" },
  { "age_days", "integer?", "its age" },
  problems[2],
})
type_of("Space", "Room on the disk.", {
  { "sufficient", "boolean", "it is enough" },
  { "available", "string", "for people: `83.5 GB`" },
  { "required", "string", "likewise" },
  { "available_bytes", "integer", "free" },
  { "required_bytes", "integer", "needed" },
  { "problem", "string?", "what is missing" },
})
type_of("Verified", "Files compared with the source's by their hashes.", {
  { "verified", "boolean", "all that were shipped are equal" },
  { "checked", "integer", "files compared" },
  { "kept", "integer", "files of the user's, not compared" },
  { "mismatches", "table[]", "those that differ" },
  { "problem", "string?", "in words" },
})
type_of("Health", "How the server is.", {
  { "responding", "boolean?", "it answered over MCP; nil when it was not asked, in a dry run" },
  { "tools", "string[]", "names, sorted" },
  { "tools_registered", "integer", "how many" },
  { "server_version", "string?", "as it says" },
  { "via", '"http"|"probe"', "the running server, or a private one of the same code" },
  { "seconds", "number", "it took" },
  { "error", "string?", "why it did not answer" }, NOT_RUN,
})
type_of("Backup", "A backup that was made.", {
  { "backup_path", "string", "relative to the project, with a final slash" },
  { "backup_timestamp", "string", "ISO 8601" },
  { "files_backed_up", "integer", "regular files" },
  { "backup_size_bytes", "integer", "their size" },
  { "backup_manifest", "string", "path of its `MANIFEST.json`" },
  { "archive_bytes", "integer", "size of the archive" },
})
type_of("BackupListed", "A backup as it is listed.", {
  { "name", "string", "`2025-10-08-103045`" },
  { "timestamp", "string?", "ISO 8601" },
  { "files", "integer?", "regular files" },
  { "bytes", "integer?", "their size" },
  { "verified", "boolean?", "nil when it was not read back" },
  { "problem", "string?", "what is wrong with it" },
})
type_of("Pruned", "What became of old backups.", {
  { "archived_count", "integer", "deleted" },
  { "archived", "string[]", "their names" },
  { "kept_backups", "string[]", "names, newest first" },
  { "broken", "{ name: string, problem: string }[]", "damaged ones, left alone" },
})
type_of("Preview", "What the plan will do.", {
  { "new_files", "integer", "" }, { "updated_files", "integer", "" },
  { "merged_files", "integer", "changed on both sides, and put together" },
  { "unchanged_files", "integer", "" }, { "removed_files", "integer", "" },
  { "conflicts", "integer", "" }, { "local_only", "integer", "files of the user's, kept" },
  { "changes", "integer", "files written or removed" },
  { "bytes", "integer", "written" },
  { "hash", "string", "of the plan" },
  { "driver", "string", "who decided about the content" },
  { "nothing_to_do", "boolean", "" },
})
type_of("Applied", "What was done to the content.", {
  { "new_files", "integer", "" }, { "updated_files", "integer", "" },
  { "merged_files", "integer", "" },
  { "removed_files", "integer", "" }, { "conflicts_resolved", "integer", "" },
  { "user_prompts", "integer", "questions asked" },
  { "files_written", "integer", "" }, { "bytes_written", "integer", "" },
  { "verified", "boolean", "read back and equal to the source's" },
  { "version", "string", "the new one" }, { "commit", "string", "it comes from" },
  { "requirements", "string?", "the list of the server's packages, in the target; of "
    .. "`upgrade_server_code`" },
})
type_of("Ignored", "What became of the project's `.gitignore`.", {
  { "path", "string", "of the file" },
  { "added", "string[]", "lines" },
  { "created", "boolean", "there was none" },
})
type_of("Installed", "What installing packages led to.", {
  { "success", "boolean?", "nil when nothing was installed, in a dry run" },
  { "packages_installed", "integer", "" },
  { "errors", "{ kind: string, message: string, next: string }[]", "what went wrong" },
  { "warnings", "string[]", "" },
  { "environment_created", "boolean", "there was none" },
  { "environment", "string?", "path of the clone that waits to be switched" },
  { "reason", "string?", "`unchanged`, or why nothing was installed" },
  { "seconds", "number", "it took" }, NOT_RUN,
})
type_of("Step", "A step a package wants after its installation.", {
  { "package", "string", "" }, { "command", "string", "as it would be typed" },
  { "optional", "boolean", "its failure is a warning" },
})
type_of("StepDone", "How such a step ended.", {
  { "package", "string", "" }, { "command", "string", "" },
  { "status", '"success"|"failed"|"not_run"', "" },
  { "output", "string", "" }, { "seconds", "number", "" },
  { "optional", "boolean", "" }, { "reason", "string?", "why it did not run" },
  { "bytes", "integer?", "by how much the environment grew, and the cache of a built-in step" },
})
type_of("Smoke", "What calling the server's tools showed.", {
  { "tools", "string[]", "names" },
  { "tools_registered", "integer?", "how many; nil when it was not asked, in a dry run" },
  { "server_version", "string?", "as it says" },
  { "calls", "table[]", "of `id`, `title`, `tool`, `status`, `reason`, `seconds`" },
  { "browser_tools_enabled", "boolean?", "" },
  { "protocol_version", "string?", "of MCP" },
  { "via", "string?", "\"http\": the running server was asked, \"probe\": a private one" },
  { "reported", "table?", "`file_watchers_active` and `rag_index_current`, booleans, where the "
    .. "server reports them" }, NOT_RUN,
})
type_of("Staged", "The server's code as it will be.", {
  { "path", "string", "the folder it lies in" },
  { "requirements", "string?", "the list of the server's packages in it; nil without one" },
})
type_of("Proven", "What the new server showed before the old one was stopped.", {
  { "proven", "boolean?", "true; nil in a dry run" },
  { "tools", "string[]", "names, sorted" }, { "tools_registered", "integer?", "how many" },
  { "server_version", "string?", "as it says" },
  { "calls", "table[]", "of `id`, `title`, `tool`, `status`, `reason`, `seconds`" },
  { "seconds", "number", "it took" }, NOT_RUN,
})
type_of("Watched", "How the new server was watched.", {
  { "watched", "boolean", "false where none was restarted" },
  { "seconds", "number", "waited for" }, NOT_RUN,
})
type_of("Restarted", "What became of the server.", {
  { "stopped", "boolean", "the old one" }, { "started", "boolean", "the new one" },
  { "restart_time", "string?", "ISO 8601; nil in a dry run" }, { "seconds", "number", "it took" },
  { "health", "praxlua.phase.Health", "how the new one is" },
  { "reason", "string?", "why none was restarted" }, NOT_RUN,
})
type_of("Tested", "How the project's tests went, or the server's own.", {
  { "passed", "boolean?", "nil when they were not run" },
  { "reason", "string?", "`no_tests` or `no_runner`" },
  { "message", "string?", "in words" }, { "command", "string?", "that was run" },
  { "output", "string?", "the end of what the tests said" }, { "timed_out", "boolean?", "" },
  { "exit_code", "integer?", "" },
  { "seconds", "number?", "they took" }, NOT_RUN,
})

-- ---------------------------------------------------------------------------------------------
-- Verbs

---@type table<string, praxlua.reference.Verb>
reference.VERBS = {}

local DENIED = "EDENIED: it may not be called now, or not with this path"
local PATH_ERRORS = {
  DENIED, "EINVAL: the path leaves the root, or is not a plain relative one",
  "ELOOP, EXDEV: there is a link on the way",
}

local function errors(...)
  local all = table.move(PATH_ERRORS, 1, #PATH_ERRORS, 1, {})
  return table.move({ ... }, 1, select("#", ...), #all + 1, all)
end

-- doc, args, returns; the rest by name. A verb fails and is granted like its group unless said.
local function verb(name, doc, args, returns, more)
  local made = { doc = doc, args = args, returns = returns, fails = true, errors = { DENIED },
    when = "always" }
  for key, value in pairs(more or {}) do made[key] = value end
  reference.VERBS[name] = made
end

local path = { "path", "string", "relative to the root; `.` is the root itself" }

local function reading(root)
  local grant = { root, "read" }
  verb(root .. ".read", "The content of a file.", {
    path, optional("limit", "integer", "the most bytes accepted; 64 MiB when nil"),
  }, { { "string", "the content" } }, { grant = grant, errors = errors(
    "ENOENT: there is no such file", "ENOTREG: it is no regular file",
    "EFBIG: it is longer than the limit") })
  verb(root .. ".list", "The names in a folder, sorted by their bytes. What is in the folders "
    .. "within is not listed.", { path }, { { "praxlua.phase.Entry[]", "the entries" } },
    { grant = grant, errors = errors("ENOENT: there is no such folder", "ENOTDIR: it is none") })
  verb(root .. ".exists", "Whether there is a file, a folder or a link of that name.", { path },
    { { "boolean", "whether" } }, { grant = grant, errors = errors() })
  verb(root .. ".hash", "The SHA-256 of a file.", { path },
    { { "string", "in hex" }, { "integer", "size in bytes" } }, { grant = grant,
      errors = errors("ENOENT: there is no such file", "ENOTREG: it is no regular file") })
end

local CHANGED = "ECHANGED: somebody changed the file at the same moment"

local function writing(root)
  local more = { grant = { root, "write" }, when = "changing",
    errors = { DENIED .. ", or the path is one of praxlua's or git's own folders", PATH_ERRORS[2],
      PATH_ERRORS[3], CHANGED } }
  verb(root .. ".write", "Writes a file, making the folders on the way. The old content is what an "
    .. "undo brings back.", {
    path, { "data", "string", "the whole content" },
    optional("mode", "integer", "permission bits; those of the old file, or 0644, when nil"),
  }, { { "true", "" } }, more)
  verb(root .. ".remove", "Removes a file or a link; a missing one is fine. Folders that become "
    .. "empty stay.", { path }, { { "true", "" } }, more)
  verb(root .. ".rename", "Moves a file, a link, or a folder with everything in it, in one batch.",
    { { "from", "string", "relative to the root" },
      { "to", "string", "likewise; nothing may be there" } },
    { { "true", "" } }, { grant = more.grant, when = more.when, errors = {
      more.errors[1], PATH_ERRORS[2], PATH_ERRORS[3], CHANGED, "ENOENT: there is no `from`",
      "EEXIST: there is something at `to`" } })
end

reading("source")
for _, root in ipairs({ "target", "project" }) do
  reading(root)
  writing(root)
end

local command = { "command", "praxlua.phase.Command",
  "the words, and `stdin` and `timeout` by name: `{ \"git\", \"status\", timeout = 30 }`" }

verb("spawn", "Runs a granted tool and waits for its end. There is no shell; the tool is looked "
  .. "for on `PATH`; its working directory is the project, its environment a short list. A tool "
  .. "may write in a temporary directory of its own and in caches, and in the installation only "
  .. "after an undo was registered with `host.undo`. None outlives its phase.", { command },
  { { "praxlua.phase.Ended", "how it ended" } }, { grant = { "tools" }, when = "changing",
    errors = { DENIED, "ENOENT: there is no such program on `PATH`" } })
verb("undo", "Registers, before a tool changes anything, the command that takes it back. It is "
  .. "kept on disk before the call returns. Registered commands run in reverse order when the "
  .. "upgrade is undone, before the files are brought back, and before a phase that was cut short "
  .. "is repeated. Such a command can run twice, and must be written for that.", {
  { "command", "praxlua.phase.Command", "as of `host.spawn`, but without `stdin`" },
}, { { "true", "" } }, { grant = { "tools" }, when = "changing" })

local function alone(name, doc, args, returns)
  verb(name, doc, args, returns, { fails = false, errors = {} })
end

alone("log", "Notes something. It appears in the JSON events only.", {
  { "text", "any", "what to note; no table" } }, { { "true", "" } })
alone("warn", "Tells a person something that does not stop the upgrade.", {
  { "text", "any", "what to tell; no table" } }, { { "true", "" } })
alone("progress", "Says what is being done, and how far it is.", {
  { "text", "any", "what is done; no table" },
  optional("fraction", "number", "done so far, 0 to 1"),
}, { { "true", "" } })
alone("time", "The present time.", {}, { { "string", "ISO 8601, UTC" } })
alone("ask", "Asks a person. Where nobody can be asked, and with `--yes`, the answer is the "
  .. "default. The time it takes is not counted.", {
  { "question", "string", "one line" },
  optional("choices", "string[]", "the possible answers; `yes` and `no` when nil"),
  optional("default", "string", "one of them"),
}, { { "string?", "the answer: one of the choices; nil when nobody answers and there is no "
  .. "default" } })
alone("json.encode", "The JSON text of a value, its keys sorted. A table without any key is "
  .. "written as an object. Raises for what has no JSON form.", {
  { "value", "any", "" },
  optional("options", "{ pretty: boolean?, max_depth: integer? }", "`pretty`: two spaces a level"),
}, { { "string", "without a line end" } })
verb("json.decode", "The value of a JSON text. Integers stay integers. A `null` is not there: what "
  .. "is decoded and encoded again has lost it.", { { "text", "string", "JSON, UTF-8" } },
  { { "any", "the value" } }, { errors = { "EJSON: it is no JSON; the message says at which byte",
    "EFBIG: it is too long", "EDEPTH: it is nested too deeply" } })

-- The verbs of one service.
local function service(name, list)
  for _, row in ipairs(list) do
    local more = row[5] or {}
    more.grant = { "services", name }
    more.when = row[4]
    verb(name .. "." .. row[1], row[2], row.args or {}, row[3], more)
  end
end

local function one(of, text) return { { of, text or "" } } end

service("validation", {
  { "validate_source_repo", "Whether the source is a clean work tree of this product and not older "
    .. "than the installation.", one("praxlua.phase.SourceFound"), "always", { fails = false } },
  { "validate_target_structure", "Whether the target is an installation of a known layout.",
    one("praxlua.phase.TargetFound"), "always", { fails = false } },
  { "check_permissions", "Whether the places an upgrade writes to can be written.",
    one("praxlua.phase.Checked"), "always", { fails = false } },
  { "check_backups", "How many backups there are and how old the newest is.",
    one("praxlua.phase.BackupsFound"), "always", { fails = false } },
  { "check_disk_space", "What an upgrade needs against what is free.", one("praxlua.phase.Space"),
    "always", args = { optional("need", "{ bytes: integer?, inodes: integer? }",
      "what will be staged, when the caller knows better") } },
  { "verify_checksums", "Compares the installation's files of one component with the source's.",
    one("praxlua.phase.Verified"), "always", { errors = { DENIED, "EINVAL: there is no such "
      .. "component" } },
    args = { { "component", "string", "its name in the layout: `standards`, `mcp_server`" } } },
  { "check_server_health", "Asks the server of this installation whether it is well.",
    one("praxlua.phase.Health"), "always" },
})
service("backup", {
  { "create_backup", "Makes a backup and compares it with the live files.",
    one("praxlua.phase.Backup"), "acting",
    { errors = { DENIED, "ECHANGED: a file changed meanwhile",
      "ENOTREG: there is a special file" } } },
  { "verify_backup_integrity", "Reads a backup back and compares it with its manifest.",
    one("true"), "always", { errors = { DENIED, "EBADBACKUP: it is damaged",
      "ENOENT: there is no such backup", "EINVAL: that is no name of a backup" } },
    args = { { "name", "string", "`2025-10-08-103045`" } } },
  { "archive_old_backups", "Deletes all but the newest verified backups.",
    one("praxlua.phase.Pruned"), "acting",
    args = { { "keep", "integer", "how many to keep, at least 1" } } },
  { "list_backups", "The backups there are, newest first.", one("praxlua.phase.BackupListed[]"),
    "always", args = { optional("options", "{ verify: boolean? }",
      "`verify`: read every one back as well") } },
})
service("content", {
  { "preview", "What the plan of this upgrade will do.", one("praxlua.phase.Preview"), "always" },
  { "upgrade", "Applies the plan to the content and reads it back.", one("praxlua.phase.Applied"),
    "acting", { errors = { DENIED, "ECONFLICT: a conflict is open",
      "ECHANGED: a file changed since the plan was made",
      "EVERIFY: what was written is not right", "EINVAL: there is no such component" } },
    args = { optional("options", "{ components: string[]? }",
      "which; all but the server's code") } },
  { "stage_server_code", "Stages the server's code beside the installation, for `server.prove`.",
    one("praxlua.phase.Staged"), "acting", { errors = { DENIED, "ECONFLICT: a conflict is open",
      "ECHANGED: the source changed since the plan was made" } } },
  { "upgrade_server_code", "The same for the server's code and the scripts beside it.",
    one("praxlua.phase.Applied"), "acting",
    { errors = { DENIED, "ECHANGED, EVERIFY: as for `upgrade`" } } },
  { "gitignore", "Adds what the project's `.gitignore` is missing.", one("praxlua.phase.Ignored"),
    "acting" },
})
service("dependencies", {
  { "install_dependencies", "Installs what the server requires, into a clone of its environment, "
    .. "and exchanges that for the environment. `beside`: the clone waits for "
    .. "`switch_environment`. Nothing is done (`reason = \"unchanged\"`) where requirements and "
    .. "environment are what a recorded installation left.",
    one("praxlua.phase.Installed"), "acting",
    args = { optional("options", "{ requirements: string?, beside: boolean? }",
      "`requirements`: another file of the installation") } },
  { "switch_environment", "Exchanges the clone that waits for the environment; true at once when "
    .. "none waits.", one("boolean"), "acting", { errors = { DENIED,
      "ECHANGED: `venv` is no longer what it was" } } },
  { "run_post_install_steps", "Runs steps that packages want after their installation, in the "
    .. "clone while one waits.",
    one("praxlua.phase.StepDone[]"), "acting",
    args = { { "steps", "praxlua.phase.Step[]", "of `detect_post_install_steps`" } } },
  { "detect_post_install_steps", "The steps that a requirements file makes necessary.",
    one("praxlua.phase.Step[]"), "always", { fails = false },
    args = { optional("requirements", "string", "content of the file; the server's own") } },
})
service("server", {
  { "prove", "Starts the staged code, or the installed where none is staged, in private beside the "
    .. "running server, with the environment that was prepared for it: it has to shake hands, to "
    .. "offer the tools of the old server, and to pass the smoke calls.",
    one("praxlua.phase.Proven"), "acting", { errors = { DENIED, "ECLOSED: it ended at once",
      "ETIMEDOUT: it did not answer in time", "EPROTOCOL: what it says is not MCP",
      "ELOSTTOOL: it lacks a tool of the old server", "ESMOKE: a tool fails" } },
    args = { optional("options", "{ timeout: number? }", "seconds it has to answer") } },
  { "watch", "Waits until the restarted server has stayed for its time (`--watch`).",
    one("praxlua.phase.Watched"), "acting", { errors = { DENIED,
      "ECLOSED: it ended meanwhile" } } },
  { "restart_server", "Stops the server of this installation and starts the new one, or tries the "
    .. "new code in private where there is nothing to restart.", one("praxlua.phase.Restarted"),
    "acting", { errors = { DENIED, "ECLOSED: it ended at once",
      "ETIMEDOUT: it did not answer in time",
      "ENOTOURS: the process is not this installation's" } },
    args = { optional("options", "{ timeout: number? }", "seconds it has to answer") } },
  { "health", "How the server is: the running one, or the installed code in private.",
    one("praxlua.phase.Health"), "always", { fails = false },
    args = { optional("seconds", "number", "how long it may take") } },
  { "run_smoke", "Calls the tools that show that the server works.", one("praxlua.phase.Smoke"),
    "always" },
  { "log_errors_since", "The lines of the server's log that tell of errors since its last start.",
    one("string[]"), "always", { fails = false },
    args = { optional("offset", "integer", "bytes to pass over") } },
  { "expected_tools", "The tools the new server must offer.", one("string[]"), "always",
    { fails = false } },
  { "run_tests", "Runs the project's tests, or the server's own.", one("praxlua.phase.Tested"),
    "acting" },
})
local WRITTEN = { { "boolean", "whether it was written" } }
service("report", {
  { "generate_validation_report", "Writes what the validation found, as JSON.",
    one("string", "its path, relative to the project"), "acting",
    args = { { "results", "table", "whatever has a JSON form" } } },
  { "generate_upgrade_summary", "Writes the report for people.",
    one("string", "its path, relative to the project"), "acting" },
  { "update_installation_summary", "Appends a section to `INSTALLATION_SUMMARY.md`.", WRITTEN,
    "acting", args = { { "info", "table", "what to say of this upgrade" } } },
  { "append_to_update_log", "Appends a line to `UPDATE_LOG.txt`.", WRITTEN, "acting", args = {
    optional("version", "string", "upgraded to"), optional("changes", "table", "counts") } },
  { "commit_changes", "Commits the upgrade in the project's repository, when `--git-commit` was "
    .. "given.", { { "boolean", "whether; a warning says why not" } }, "acting", { fails = false },
    args = { optional("info", "{ to_version: string?, commit: string? }", "for the message") } },
})
service("lock", {
  { "acquire", "Writes `.upgrade-lock`.", one("true"), "acting" },
  { "release", "Removes it.", one("true"), "acting" },
  { "held", "Whether this run holds the lock.", one("boolean"), "always", { fails = false } },
})

--- What `host` holds beside verbs: { name, type, text }.
---@type praxlua.reference.Field[]
reference.DATA = {
  { "artifacts", "table<string, table>", "the evidence of the phases before: by number as text "
    .. "for the built-in ones, `host.artifacts[\"0\"].source_version`, by id for others" },
  { "options", "praxlua.phase.Options", "what the user asked for" },
}

type_of("Options", "The options of this upgrade, as on the command line.", {
  { "on_conflict", '"ask"|"stop"|"ours"|"theirs"', "" }, { "allow_downgrade", "boolean?", "" },
  { "keep_backups", "integer", "" }, { "restart", "boolean?", "false with `--no-restart`" },
  { "run_tests", "boolean?", "" }, { "git_commit", "boolean?", "" }, { "dry_run", "boolean?", "" },
  { "yes", "boolean?", "" }, { "health_timeout", "number", "seconds" },
  { "driver", "string?", "with `--driver`: who decides about the content" },
  { "from_version", "string?", "installed before" },
  { "arguments", "string[]?", "the arguments of `praxlua run`" },
  { "project", "table?", "what the project file declares: `components`, `ownership`, `excludes`, "
    .. "`server`, `smoke`" },
})

-- ---------------------------------------------------------------------------------------------
-- The prelude

--- The global names beside those of Lua: { name, parameters, result type, text }. No parameters: a
--- number. `schema`: the kind of praxlua.schema it makes.
---@type table[]
reference.PRELUDE = {
  { name = "integer", schema = "integer", doc = "A whole number, from `min` to `max`." },
  { name = "number", schema = "number", doc = "A finite number, from `min` to `max`." },
  { name = "string_of", schema = "string", doc = "A text; `one_of` lists the allowed ones, the "
    .. "lengths are in bytes." },
  { name = "boolean", schema = "boolean", doc = "true or false; with `equals`, only that one." },
  { name = "any", schema = "any", doc = "Anything that has a JSON form." },
  { name = "array_of", schema = "array", doc = "A sequence of values of one type, at most `max`." },
  { name = "map_of", schema = "map", doc = "Texts to values of one type, at most `max` of them." },
  { name = "object", schema = "object", doc = "A table with exactly these fields." },
  { name = "optional", schema = "optional", doc = "A field that may be left out." },
  { name = "nullable", schema = "nullable", doc = "A field that may be nil when a field "
    .. "`NAME_reason` beside it says why, in one word such as `not_run`." },
  { name = "receipts_of", args = { { "verb", "string", "`\"target.write\"`" } },
    returns = "praxlua.phase.Model", doc = "Evidence that the host fills in itself: how often that "
    .. "verb succeeded in this phase. A phase that returns the field all the same must return the "
    .. "same." },
  { name = "answer_of", args = { { "verb", "string", "`\"backup.create_backup\"`" },
    optional("field", "string", "of the answer; the whole answer when nil") },
    returns = "praxlua.phase.Model", doc = "Evidence that the host fills in itself: what that verb "
    .. "answered last in this phase, null when it was never called." },
  { name = "need", args = { { "value", "any", "first result of a call" },
    optional("message", "string", "second one") }, returns = "any", doc = "Gives back what a call "
    .. "returned, or fails the phase with the host's message. `need(host.target.read(path))` is "
    .. "the usual way to call the host." },
  { name = "KiB", value = 1024, doc = "1024" },
  { name = "MiB", value = 1024 * 1024, doc = "1024 KiB" },
  { name = "GiB", value = 1024 * 1024 * 1024, doc = "1024 MiB" },
}

-- ---------------------------------------------------------------------------------------------
-- The phase table

--- The fields of a phase table.
---@type praxlua.reference.Field[]
reference.PHASE = {
  { "title", "string", "what it does, in a few words" },
  optional("id", "string", "the file's name without number and ending, which it is anyway"),
  optional("after", "string", "id of the phase it follows"),
  optional("before", "string", "id of the phase it precedes; one of the two is required, unless it "
    .. "replaces a built-in phase"),
  optional("grants", "praxlua.phase.Grants", "what it may do; nothing when left out"),
  optional("limits", "praxlua.phase.Limits", "what it may use; the defaults when left out"),
  optional("evidence", "table<string, praxlua.phase.Model>", "the fields it returns; none when "
    .. "left out"),
  optional("manual", "string", "what a person has to do; such a phase has no `run`"),
  optional("run", "fun(host: praxlua.phase.Host): table?", "does the work and returns the "
    .. "evidence; required where there is no `manual`"),
}

--- The fields of its grants.
---@type praxlua.reference.Field[]
reference.GRANTS = {
  optional("source", '"read"', "`host.source`"),
  optional("target", '"read"|"write"', "`host.target`: reading, or reading and writing"),
  optional("project", '"read"|"write"', "`host.project`, likewise"),
  optional("services", "string[]", "the services it may call: `{ \"validation\" }`"),
  optional("tools", "string[]", "the programs it may run: names without a folder, `{ \"git\" }`"),
  optional("network", "boolean", "its tools may reach the network"),
}

--- The fields of its limits, with their units.
---@type table<string, { [1]: string, [2]: string }>
reference.LIMITS = {
  wall = { "number", "seconds from its start to its end, less the time `host.ask` waits" },
  cpu = { "integer", "seconds of processor time" },
  memory = { "integer", "bytes of Lua memory" },
  instructions = { "integer", "instructions of the Lua machine, over all coroutines" },
  output = { "integer",
    "bytes of text for `host.log`, `host.warn`, `host.progress` and `host.ask`" },
  messages = { "integer", "calls of the host" },
}

--- How a phase can end: { verdict, what it means, what to do }.
---@type { [1]: string, [2]: string, [3]: string }[]
reference.VERDICTS = {
  { "ok", "It ran to its end and its evidence is right.", "Nothing." },
  { "error", "The script raised an error, `need` met a failed call, or it is no phase.",
    "The message is the script's own, with the line." },
  { "limit:instructions", "It ran more instructions than it may.", "Look for a loop that does not "
    .. "end; for real work raise `limits.instructions`." },
  { "limit:memory", "It needed more memory than it may.", "Read less at once; else raise "
    .. "`limits.memory`, which is in bytes." },
  { "limit:cpu", "It used more processor time than it may.", "Look for a slow pattern of `string` "
    .. "on a long text; else raise `limits.cpu`." },
  { "limit:wall", "It took longer than it may.", "Raise `limits.wall`, or give `host.spawn` a "
    .. "shorter `timeout`." },
  { "limit:output", "It told more than it may.", "Log less; else raise `limits.output`." },
  { "limit:messages", "It called the host more often than it may.", "Ask for more at once (`list` "
    .. "instead of many `exists`); else raise `limits.messages`." },
  { "denied:grant", "It ended because of a call that was not granted.", "`praxlua phase check` "
    .. "says which grant is missing." },
  { "denied:system-call", "The kernel ended it: its process did what no phase does.", "This is no "
    .. "mistake of a script in Lua. Do not use that script, and report it." },
  { "denied:isolation", "This machine confines phases less than `--min-isolation` demands.",
    "`praxlua doctor` says which level holds, and why." },
  { "crash:SIGNAL", "Its process crashed.", "Report it with the script; it is a fault of "
    .. "praxlua." },
  { "protocol:no-result", "Its process ended without a result.", "Report it with the script." },
  { "protocol:bad-frame", "What came from its process was no message.", "Report it with the "
    .. "script." },
  { "protocol:oversize", "A value was too large to cross to the host (64 MiB, a million values, 32 "
    .. "levels, 250 values side by side).", "Hand over less at once." },
  { "evidence:schema", "The evidence is not what `evidence` declares.", "The message names the "
    .. "field; return exactly the declared ones." },
  { "evidence:checkpoint", "A built-in phase's evidence says that the upgrade must not go on.",
    "The message says what has to be mended." },
  { "evidence:receipt", "The evidence claims what the host did not do.", "Do not return fields of "
    .. "`receipts_of` and `answer_of`; the host fills them in." },
  { "interrupted", "A person or the system ended praxlua.", "Run the upgrade again." },
}

-- ---------------------------------------------------------------------------------------------
-- What is left of Lua

local function names(text)
  local list = {}
  for name in text:gmatch("%S+") do list[#list + 1] = name end
  return list
end

--- The functions and values of the base library, sorted.
reference.BASE = names([[_G _VERSION assert collectgarbage error getmetatable ipairs load next pairs
  pcall rawequal rawget rawlen rawset select setmetatable tonumber tostring type xpcall]])

--- The libraries, and what is in each, sorted.
reference.LIBRARIES = {
  coroutine = names("close create isyieldable resume running status wrap yield"),
  math = names([[abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min
    mininteger modf pi rad random sin sqrt tan tointeger type ult]]),
  string = names([[byte char find format gmatch gsub len lower match pack packsize rep reverse sub
    unpack upper]]),
  table = names("concat insert move pack remove sort unpack"),
  utf8 = names("char charpattern codepoint codes len offset"),
}

--- Functions of math that only a Lua built for older scripts has, with what to do instead.
---@type table<string, string>
reference.OLD = {
  pow = "write x ^ y", atan2 = "write math.atan(y, x)",
  log10 = "write math.log(x, 10)", ldexp = "write m * 2.0 ^ e",
  frexp = "compute it from math.log(x, 2)", cosh = "write (math.exp(x) + math.exp(-x)) / 2",
  sinh = "write (math.exp(x) - math.exp(-x)) / 2",
  tanh = "write 1 - 2 / (math.exp(2 * x) + 1)",
}

--- What scripts look for and do not find, with what to do instead.
---@type table<string, string>
reference.ABSENT = {
  os = "use host.time() for the time; a phase sees no environment and starts programs with "
    .. "host.spawn",
  io = "read and write files with host.target, host.project or host.source",
  require = "a phase is one file; put the function into it",
  print = "tell a person with host.warn or host.progress, note with host.log",
  warn = "use host.warn(text)",
  debug = "use error(text) to say what is wrong",
  package = "a phase is one file; there are no modules",
  dofile = "a phase is one file; put the code into it",
  loadfile = "a phase is one file; put the code into it",
  unpack = "in Lua 5.4 it is table.unpack",
  loadstring = "in Lua 5.4 it is load",
  setfenv = "Lua 5.4 has none; give load an environment",
  getfenv = "Lua 5.4 has none",
  ["string.dump"] = "a phase stays text",
  ["math.randomseed"] = "random numbers are the same in every run, on purpose",
  ["table.getn"] = "in Lua 5.4 it is #t",
  ["string.gfind"] = "in Lua 5.4 it is string.gmatch",
}

--- Every global name a script finds.
---@return table<string, boolean>
function reference.globals()
  local all = {}
  for _, name in ipairs(reference.BASE) do all[name] = true end
  for name in pairs(reference.LIBRARIES) do all[name] = true end
  for _, of in ipairs(reference.PRELUDE) do all[of.name] = true end
  return all
end

--- The verbs, sorted.
---@return string[]
function reference.names()
  local all = {}
  for name in pairs(reference.VERBS) do all[#all + 1] = name end
  table.sort(all)
  return all
end

--- What a phase has to ask for to get a verb, for messages.
---@param name any
---@return string
function reference.grant_of(name)
  local of = reference.VERBS[name]
  if not of then return "there is no such verb" end
  if not of.grant then return "it needs no grant" end
  local field, value = of.grant[1], of.grant[2]
  if field == "tools" then return "name the tool in grants = { tools = { … } }" end
  return (field == "services" and 'ask for grants = { services = { "%s" } }'
    or "ask for grants = { " .. field .. ' = "%s" }'):format(value)
end

--- The groups `host` holds tables of verbs for, and how many verbs each has.
---@return table<string, integer>
function reference.groups()
  local all = {}
  for name in pairs(reference.VERBS) do
    local group = name:match("^(.-)%.")
    if group then all[group] = (all[group] or 0) + 1 end
  end
  return all
end

return reference
