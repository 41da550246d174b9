--- What a phase script finds around it, for the Lua language server; nothing loads this file. Made
--- by `make docs-api` from lua/praxlua/verbs/reference.lua.
---@meta

---The type of a field of evidence, made by the functions below.
---@class praxlua.phase.Model
---@field kind string

---The table a phase script returns.
---@class praxlua.phase.Phase
---@field title string what it does, in a few words
---@field id? string the file's name without number and ending, which it is anyway
---@field after? string id of the phase it follows
---@field before? string id of the phase it precedes; one of the two is required, unless it
---  replaces a built-in phase
---@field grants? praxlua.phase.Grants what it may do; nothing when left out
---@field limits? praxlua.phase.Limits what it may use; the defaults when left out
---@field evidence? table<string, praxlua.phase.Model> the fields it returns; none when left out
---@field manual? string what a person has to do; such a phase has no `run`
---@field run? fun(host: praxlua.phase.Host): table? does the work and returns the evidence;
---  required where there is no `manual`

---What a phase may do.
---@class praxlua.phase.Grants
---@field source? "read" `host.source`
---@field target? "read"|"write" `host.target`: reading, or reading and writing
---@field project? "read"|"write" `host.project`, likewise
---@field services? string[] the services it may call: `{ "validation" }`
---@field tools? string[] the programs it may run: names without a folder, `{ "git" }`
---@field network? boolean its tools may reach the network

---What a phase may use.
---@class praxlua.phase.Limits
---@field cpu? integer seconds of processor time
---@field instructions? integer instructions of the Lua machine, over all coroutines
---@field memory? integer bytes of Lua memory
---@field messages? integer calls of the host
---@field output? integer bytes of text for `host.log`, `host.warn`, `host.progress` and
---  `host.ask`
---@field wall? number seconds from its start to its end, less the time `host.ask` waits

---What was done to the content.
---@class praxlua.phase.Applied
---@field new_files integer
---@field updated_files integer
---@field merged_files integer
---@field removed_files integer
---@field conflicts_resolved integer
---@field user_prompts integer questions asked
---@field files_written integer
---@field bytes_written integer
---@field verified boolean read back and equal to the source's
---@field version string the new one
---@field commit string it comes from
---@field requirements string? the list of the server's packages, in the target; of
---  `upgrade_server_code`

---A backup that was made.
---@class praxlua.phase.Backup
---@field backup_path string relative to the project, with a final slash
---@field backup_timestamp string ISO 8601
---@field files_backed_up integer regular files
---@field backup_size_bytes integer their size
---@field backup_manifest string path of its `MANIFEST.json`
---@field archive_bytes integer size of the archive

---A backup as it is listed.
---@class praxlua.phase.BackupListed
---@field name string `2025-10-08-103045`
---@field timestamp string? ISO 8601
---@field files integer? regular files
---@field bytes integer? their size
---@field verified boolean? nil when it was not read back
---@field problem string? what is wrong with it

---The backups there are.
---@class praxlua.phase.BackupsFound
---@field count integer how many
---@field newest string? name of the newest
---@field age_days integer? its age
---@field warnings string[] what a person should know

---What a check found.
---@class praxlua.phase.Checked
---@field valid boolean nothing is in the way
---@field path string what was looked at
---@field problems string[] what has to be mended first
---@field warnings string[] what a person should know

---A command: its words, one after the other, and how it runs.
---@class praxlua.phase.Command
---@field [integer] string|number the tool, by the name that was granted, then its arguments
---@field stdin? string what it reads; nothing when nil
---@field timeout? number seconds after which it is ended; 60 when nil, at most 3600

---How a tool ended. A code that is not 0 is no error of the call.
---@class praxlua.phase.Ended
---@field code? integer its exit code; nil when a signal ended it, or its time was over
---@field signal? integer the signal that ended it
---@field stdout string what it wrote, cut after the first MiB
---@field stderr string likewise
---@field timed_out boolean it was ended because its time was over
---@field truncated boolean more was written than is here
---@field seconds number how long it ran
---@field not_run string? `dry_run` in a dry run, which does not do it

---One name in a folder.
---@class praxlua.phase.Entry
---@field name string without the folder
---@field type "file"|"directory"|"link"|"other" of the entry itself

---How the server is.
---@class praxlua.phase.Health
---@field responding boolean? it answered over MCP; nil when it was not asked, in a dry run
---@field tools string[] names, sorted
---@field tools_registered integer how many
---@field server_version string? as it says
---@field via "http"|"probe" the running server, or a private one of the same code
---@field seconds number it took
---@field error string? why it did not answer
---@field not_run string? `dry_run` in a dry run, which does not do it

---What became of the project's `.gitignore`.
---@class praxlua.phase.Ignored
---@field path string of the file
---@field added string[] lines
---@field created boolean there was none

---What installing packages led to.
---@class praxlua.phase.Installed
---@field success boolean? nil when nothing was installed, in a dry run
---@field packages_installed integer
---@field errors { kind: string, message: string, next: string }[] what went wrong
---@field warnings string[]
---@field environment_created boolean there was none
---@field environment string? path of the clone that waits to be switched
---@field reason string? `unchanged`, or why nothing was installed
---@field seconds number it took
---@field not_run string? `dry_run` in a dry run, which does not do it

---The options of this upgrade, as on the command line.
---@class praxlua.phase.Options
---@field on_conflict "ask"|"stop"|"ours"|"theirs"
---@field allow_downgrade boolean?
---@field keep_backups integer
---@field restart boolean? false with `--no-restart`
---@field run_tests boolean?
---@field git_commit boolean?
---@field dry_run boolean?
---@field yes boolean?
---@field health_timeout number seconds
---@field driver string? with `--driver`: who decides about the content
---@field from_version string? installed before
---@field arguments string[]? the arguments of `praxlua run`
---@field project table? what the project file declares: `components`, `ownership`, `excludes`,
---  `server`, `smoke`

---What the plan will do.
---@class praxlua.phase.Preview
---@field new_files integer
---@field updated_files integer
---@field merged_files integer changed on both sides, and put together
---@field unchanged_files integer
---@field removed_files integer
---@field conflicts integer
---@field local_only integer files of the user's, kept
---@field changes integer files written or removed
---@field bytes integer written
---@field hash string of the plan
---@field driver string who decided about the content
---@field nothing_to_do boolean

---What the new server showed before the old one was stopped.
---@class praxlua.phase.Proven
---@field proven boolean? true; nil in a dry run
---@field tools string[] names, sorted
---@field tools_registered integer? how many
---@field server_version string? as it says
---@field calls table[] of `id`, `title`, `tool`, `status`, `reason`, `seconds`
---@field seconds number it took
---@field not_run string? `dry_run` in a dry run, which does not do it

---What became of old backups.
---@class praxlua.phase.Pruned
---@field archived_count integer deleted
---@field archived string[] their names
---@field kept_backups string[] names, newest first
---@field broken { name: string, problem: string }[] damaged ones, left alone

---What became of the server.
---@class praxlua.phase.Restarted
---@field stopped boolean the old one
---@field started boolean the new one
---@field restart_time string? ISO 8601; nil in a dry run
---@field seconds number it took
---@field health praxlua.phase.Health how the new one is
---@field reason string? why none was restarted
---@field not_run string? `dry_run` in a dry run, which does not do it

---What calling the server's tools showed.
---@class praxlua.phase.Smoke
---@field tools string[] names
---@field tools_registered integer? how many; nil when it was not asked, in a dry run
---@field server_version string? as it says
---@field calls table[] of `id`, `title`, `tool`, `status`, `reason`, `seconds`
---@field browser_tools_enabled boolean?
---@field protocol_version string? of MCP
---@field via string? "http": the running server was asked, "probe": a private one
---@field reported table? `file_watchers_active` and `rag_index_current`, booleans, where the
---  server reports them
---@field not_run string? `dry_run` in a dry run, which does not do it

---What the source is.
---@class praxlua.phase.SourceFound
---@field valid boolean an upgrade may come from it
---@field path string absolute
---@field version string of the source
---@field commit string checked out, in hex
---@field branch string? checked out; nil where none is
---@field clean boolean nothing is uncommitted
---@field problems string[] what has to be mended first
---@field warnings string[] what a person should know

---Room on the disk.
---@class praxlua.phase.Space
---@field sufficient boolean it is enough
---@field available string for people: `83.5 GB`
---@field required string likewise
---@field available_bytes integer free
---@field required_bytes integer needed
---@field problem string? what is missing

---The server's code as it will be.
---@class praxlua.phase.Staged
---@field path string the folder it lies in
---@field requirements string? the list of the server's packages in it; nil without one

---A step a package wants after its installation.
---@class praxlua.phase.Step
---@field package string
---@field command string as it would be typed
---@field optional boolean its failure is a warning

---How such a step ended.
---@class praxlua.phase.StepDone
---@field package string
---@field command string
---@field status "success"|"failed"|"not_run"
---@field output string
---@field seconds number
---@field optional boolean
---@field reason string? why it did not run
---@field bytes integer? by how much the environment grew, and the cache of a built-in step

---What the installation is.
---@class praxlua.phase.TargetFound
---@field valid boolean its layout is known
---@field path string absolute
---@field layout string? the layout's name
---@field version string? installed
---@field commit string? it came from
---@field problems string[] what has to be mended first
---@field warnings string[] what a person should know

---How the project's tests went, or the server's own.
---@class praxlua.phase.Tested
---@field passed boolean? nil when they were not run
---@field reason string? `no_tests` or `no_runner`
---@field message string? in words
---@field command string? that was run
---@field output string? the end of what the tests said
---@field timed_out boolean?
---@field exit_code integer?
---@field seconds number? they took
---@field not_run string? `dry_run` in a dry run, which does not do it

---Files compared with the source's by their hashes.
---@class praxlua.phase.Verified
---@field verified boolean all that were shipped are equal
---@field checked integer files compared
---@field kept integer files of the user's, not compared
---@field mismatches table[] those that differ
---@field problem string? in words

---How the new server was watched.
---@class praxlua.phase.Watched
---@field watched boolean false where none was restarted
---@field seconds number waited for
---@field not_run string? `dry_run` in a dry run, which does not do it

---Files beneath the source repository that is upgraded from.
---@class praxlua.phase.Host.source
local source = {}

---Whether there is a file, a folder or a link of that name.
---Grant: `source = "read"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return boolean|nil whether
---@return string? message
---@return string? code
function source.exists(path) end

---The SHA-256 of a file.
---Grant: `source = "read"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return string|nil in hex
---@return integer? size in bytes
---@return string? code
function source.hash(path) end

---The names in a folder, sorted by their bytes. What is in the folders within is not listed.
---Grant: `source = "read"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return praxlua.phase.Entry[]|nil the entries
---@return string? message
---@return string? code
function source.list(path) end

---The content of a file.
---Grant: `source = "read"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@param limit? integer the most bytes accepted; 64 MiB when nil
---@return string|nil the content
---@return string? message
---@return string? code
function source.read(path, limit) end

---Files beneath the installation (`.praxis-os`). What is changed is part of the upgrade's
---transaction, and undone with it.
---@class praxlua.phase.Host.target
local target = {}

---Whether there is a file, a folder or a link of that name.
---Grant: `target = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return boolean|nil whether
---@return string? message
---@return string? code
function target.exists(path) end

---The SHA-256 of a file.
---Grant: `target = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return string|nil in hex
---@return integer? size in bytes
---@return string? code
function target.hash(path) end

---The names in a folder, sorted by their bytes. What is in the folders within is not listed.
---Grant: `target = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return praxlua.phase.Entry[]|nil the entries
---@return string? message
---@return string? code
function target.list(path) end

---The content of a file.
---Grant: `target = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@param limit? integer the most bytes accepted; 64 MiB when nil
---@return string|nil the content
---@return string? message
---@return string? code
function target.read(path, limit) end

---Removes a file or a link; a missing one is fine. Folders that become empty stay.
---Grant: `target = "write"`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param path string relative to the root; `.` is the root itself
---@return true|nil
---@return string? message
---@return string? code
function target.remove(path) end

---Moves a file, a link, or a folder with everything in it, in one batch.
---Grant: `target = "write"`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param from string relative to the root
---@param to string likewise; nothing may be there
---@return true|nil
---@return string? message
---@return string? code
function target.rename(from, to) end

---Writes a file, making the folders on the way. The old content is what an undo brings back.
---Grant: `target = "write"`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param path string relative to the root; `.` is the root itself
---@param data string the whole content
---@param mode? integer permission bits; those of the old file, or 0644, when nil
---@return true|nil
---@return string? message
---@return string? code
function target.write(path, data, mode) end

---Files beneath the folder that holds the installation, likewise.
---@class praxlua.phase.Host.project
local project = {}

---Whether there is a file, a folder or a link of that name.
---Grant: `project = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return boolean|nil whether
---@return string? message
---@return string? code
function project.exists(path) end

---The SHA-256 of a file.
---Grant: `project = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return string|nil in hex
---@return integer? size in bytes
---@return string? code
function project.hash(path) end

---The names in a folder, sorted by their bytes. What is in the folders within is not listed.
---Grant: `project = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@return praxlua.phase.Entry[]|nil the entries
---@return string? message
---@return string? code
function project.list(path) end

---The content of a file.
---Grant: `project = "read"`, or `"write"`. When: at any time.
---@param path string relative to the root; `.` is the root itself
---@param limit? integer the most bytes accepted; 64 MiB when nil
---@return string|nil the content
---@return string? message
---@return string? code
function project.read(path, limit) end

---Removes a file or a link; a missing one is fine. Folders that become empty stay.
---Grant: `project = "write"`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param path string relative to the root; `.` is the root itself
---@return true|nil
---@return string? message
---@return string? code
function project.remove(path) end

---Moves a file, a link, or a folder with everything in it, in one batch.
---Grant: `project = "write"`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param from string relative to the root
---@param to string likewise; nothing may be there
---@return true|nil
---@return string? message
---@return string? code
function project.rename(from, to) end

---Writes a file, making the folders on the way. The old content is what an undo brings back.
---Grant: `project = "write"`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param path string relative to the root; `.` is the root itself
---@param data string the whole content
---@param mode? integer permission bits; those of the old file, or 0644, when nil
---@return true|nil
---@return string? message
---@return string? code
function project.write(path, data, mode) end

---Needs no grant.
---@class praxlua.phase.Host.json
local json = {}

---The value of a JSON text. Integers stay integers. A `null` is not there: what is decoded and
---encoded again has lost it.
---Grant: none. When: at any time.
---@param text string JSON, UTF-8
---@return any|nil the value
---@return string? message
---@return string? code
function json.decode(text) end

---The JSON text of a value, its keys sorted. A table without any key is written as an object.
---Raises for what has no JSON form.
---Grant: none. When: at any time.
---@param value any
---@param options? { pretty: boolean?, max_depth: integer? } `pretty`: two spaces a level
---@return string without a line end
function json.encode(value, options) end

---The checks of phase 0 and 3.
---@class praxlua.phase.Host.validation
local validation = {}

---How many backups there are and how old the newest is.
---Grant: `services = { "validation" }`. When: at any time.
---@return praxlua.phase.BackupsFound
function validation.check_backups() end

---What an upgrade needs against what is free.
---Grant: `services = { "validation" }`. When: at any time.
---@param need? { bytes: integer?, inodes: integer? } what will be staged, when the caller knows
---  better
---@return praxlua.phase.Space|nil
---@return string? message
---@return string? code
function validation.check_disk_space(need) end

---Whether the places an upgrade writes to can be written.
---Grant: `services = { "validation" }`. When: at any time.
---@return praxlua.phase.Checked
function validation.check_permissions() end

---Asks the server of this installation whether it is well.
---Grant: `services = { "validation" }`. When: at any time.
---@return praxlua.phase.Health|nil
---@return string? message
---@return string? code
function validation.check_server_health() end

---Whether the source is a clean work tree of this product and not older than the installation.
---Grant: `services = { "validation" }`. When: at any time.
---@return praxlua.phase.SourceFound
function validation.validate_source_repo() end

---Whether the target is an installation of a known layout.
---Grant: `services = { "validation" }`. When: at any time.
---@return praxlua.phase.TargetFound
function validation.validate_target_structure() end

---Compares the installation's files of one component with the source's.
---Grant: `services = { "validation" }`. When: at any time.
---@param component string its name in the layout: `standards`, `mcp_server`
---@return praxlua.phase.Verified|nil
---@return string? message
---@return string? code
function validation.verify_checksums(component) end

---Backups of the installation.
---@class praxlua.phase.Host.backup
local backup = {}

---Deletes all but the newest verified backups.
---Grant: `services = { "backup" }`. When: after `pre-flight-checks`.
---@param keep integer how many to keep, at least 1
---@return praxlua.phase.Pruned|nil
---@return string? message
---@return string? code
function backup.archive_old_backups(keep) end

---Makes a backup and compares it with the live files.
---Grant: `services = { "backup" }`. When: after `pre-flight-checks`.
---@return praxlua.phase.Backup|nil
---@return string? message
---@return string? code
function backup.create_backup() end

---The backups there are, newest first.
---Grant: `services = { "backup" }`. When: at any time.
---@param options? { verify: boolean? } `verify`: read every one back as well
---@return praxlua.phase.BackupListed[]|nil
---@return string? message
---@return string? code
function backup.list_backups(options) end

---Reads a backup back and compares it with its manifest.
---Grant: `services = { "backup" }`. When: at any time.
---@param name string `2025-10-08-103045`
---@return true|nil
---@return string? message
---@return string? code
function backup.verify_backup_integrity(name) end

---The plan of the content, and carrying it out.
---@class praxlua.phase.Host.content
local content = {}

---Adds what the project's `.gitignore` is missing.
---Grant: `services = { "content" }`. When: after `pre-flight-checks`.
---@return praxlua.phase.Ignored|nil
---@return string? message
---@return string? code
function content.gitignore() end

---What the plan of this upgrade will do.
---Grant: `services = { "content" }`. When: at any time.
---@return praxlua.phase.Preview|nil
---@return string? message
---@return string? code
function content.preview() end

---Stages the server's code beside the installation, for `server.prove`.
---Grant: `services = { "content" }`. When: after `pre-flight-checks`.
---@return praxlua.phase.Staged|nil
---@return string? message
---@return string? code
function content.stage_server_code() end

---Applies the plan to the content and reads it back.
---Grant: `services = { "content" }`. When: after `pre-flight-checks`.
---@param options? { components: string[]? } which; all but the server's code
---@return praxlua.phase.Applied|nil
---@return string? message
---@return string? code
function content.upgrade(options) end

---The same for the server's code and the scripts beside it.
---Grant: `services = { "content" }`. When: after `pre-flight-checks`.
---@return praxlua.phase.Applied|nil
---@return string? message
---@return string? code
function content.upgrade_server_code() end

---The packages of the server.
---@class praxlua.phase.Host.dependencies
local dependencies = {}

---The steps that a requirements file makes necessary.
---Grant: `services = { "dependencies" }`. When: at any time.
---@param requirements? string content of the file; the server's own
---@return praxlua.phase.Step[]
function dependencies.detect_post_install_steps(requirements) end

---Installs what the server requires, into a clone of its environment, and exchanges that for the
---environment. `beside`: the clone waits for `switch_environment`. Nothing is done (`reason =
---"unchanged"`) where requirements and environment are what a recorded installation left.
---Grant: `services = { "dependencies" }`. When: after `pre-flight-checks`.
---@param options? { requirements: string?, beside: boolean? } `requirements`: another file of the
---  installation
---@return praxlua.phase.Installed|nil
---@return string? message
---@return string? code
function dependencies.install_dependencies(options) end

---Runs steps that packages want after their installation, in the clone while one waits.
---Grant: `services = { "dependencies" }`. When: after `pre-flight-checks`.
---@param steps praxlua.phase.Step[] of `detect_post_install_steps`
---@return praxlua.phase.StepDone[]|nil
---@return string? message
---@return string? code
function dependencies.run_post_install_steps(steps) end

---Exchanges the clone that waits for the environment; true at once when none waits.
---Grant: `services = { "dependencies" }`. When: after `pre-flight-checks`.
---@return boolean|nil
---@return string? message
---@return string? code
function dependencies.switch_environment() end

---The MCP server of this installation.
---@class praxlua.phase.Host.server
local server = {}

---The tools the new server must offer.
---Grant: `services = { "server" }`. When: at any time.
---@return string[]
function server.expected_tools() end

---How the server is: the running one, or the installed code in private.
---Grant: `services = { "server" }`. When: at any time.
---@param seconds? number how long it may take
---@return praxlua.phase.Health
function server.health(seconds) end

---The lines of the server's log that tell of errors since its last start.
---Grant: `services = { "server" }`. When: at any time.
---@param offset? integer bytes to pass over
---@return string[]
function server.log_errors_since(offset) end

---Starts the staged code, or the installed where none is staged, in private beside the running
---server, with the environment that was prepared for it: it has to shake hands, to offer the
---tools of the old server, and to pass the smoke calls.
---Grant: `services = { "server" }`. When: after `pre-flight-checks`.
---@param options? { timeout: number? } seconds it has to answer
---@return praxlua.phase.Proven|nil
---@return string? message
---@return string? code
function server.prove(options) end

---Stops the server of this installation and starts the new one, or tries the new code in private
---where there is nothing to restart.
---Grant: `services = { "server" }`. When: after `pre-flight-checks`.
---@param options? { timeout: number? } seconds it has to answer
---@return praxlua.phase.Restarted|nil
---@return string? message
---@return string? code
function server.restart_server(options) end

---Calls the tools that show that the server works.
---Grant: `services = { "server" }`. When: at any time.
---@return praxlua.phase.Smoke|nil
---@return string? message
---@return string? code
function server.run_smoke() end

---Runs the project's tests, or the server's own.
---Grant: `services = { "server" }`. When: after `pre-flight-checks`.
---@return praxlua.phase.Tested|nil
---@return string? message
---@return string? code
function server.run_tests() end

---Waits until the restarted server has stayed for its time (`--watch`).
---Grant: `services = { "server" }`. When: after `pre-flight-checks`.
---@return praxlua.phase.Watched|nil
---@return string? message
---@return string? code
function server.watch() end

---What is written down about an upgrade.
---@class praxlua.phase.Host.report
local report = {}

---Appends a line to `UPDATE_LOG.txt`.
---Grant: `services = { "report" }`. When: after `pre-flight-checks`.
---@param version? string upgraded to
---@param changes? table counts
---@return boolean|nil whether it was written
---@return string? message
---@return string? code
function report.append_to_update_log(version, changes) end

---Commits the upgrade in the project's repository, when `--git-commit` was given.
---Grant: `services = { "report" }`. When: after `pre-flight-checks`.
---@param info? { to_version: string?, commit: string? } for the message
---@return boolean whether; a warning says why not
function report.commit_changes(info) end

---Writes the report for people.
---Grant: `services = { "report" }`. When: after `pre-flight-checks`.
---@return string|nil its path, relative to the project
---@return string? message
---@return string? code
function report.generate_upgrade_summary() end

---Writes what the validation found, as JSON.
---Grant: `services = { "report" }`. When: after `pre-flight-checks`.
---@param results table whatever has a JSON form
---@return string|nil its path, relative to the project
---@return string? message
---@return string? code
function report.generate_validation_report(results) end

---Appends a section to `INSTALLATION_SUMMARY.md`.
---Grant: `services = { "report" }`. When: after `pre-flight-checks`.
---@param info table what to say of this upgrade
---@return boolean|nil whether it was written
---@return string? message
---@return string? code
function report.update_installation_summary(info) end

---The text of the lock, for people and other tools.
---@class praxlua.phase.Host.lock
local lock = {}

---Writes `.upgrade-lock`.
---Grant: `services = { "lock" }`. When: after `pre-flight-checks`.
---@return true|nil
---@return string? message
---@return string? code
function lock.acquire() end

---Whether this run holds the lock.
---Grant: `services = { "lock" }`. When: at any time.
---@return boolean
function lock.held() end

---Removes it.
---Grant: `services = { "lock" }`. When: after `pre-flight-checks`.
---@return true|nil
---@return string? message
---@return string? code
function lock.release() end

---What a phase can ask for.
---@class praxlua.phase.Host
---@field source praxlua.phase.Host.source Files beneath the source repository that is upgraded
---  from.
---@field target praxlua.phase.Host.target Files beneath the installation (.praxis-os). What is
---  changed is part of the upgrade's transaction, and undone with it.
---@field project praxlua.phase.Host.project Files beneath the folder that holds the installation,
---  likewise.
---@field json praxlua.phase.Host.json Needs no grant.
---@field validation praxlua.phase.Host.validation The checks of phase 0 and 3.
---@field backup praxlua.phase.Host.backup Backups of the installation.
---@field content praxlua.phase.Host.content The plan of the content, and carrying it out.
---@field dependencies praxlua.phase.Host.dependencies The packages of the server.
---@field server praxlua.phase.Host.server The MCP server of this installation.
---@field report praxlua.phase.Host.report What is written down about an upgrade.
---@field lock praxlua.phase.Host.lock The text of the lock, for people and other tools.
---@field artifacts table<string, table> the evidence of the phases before: by number as text for
---  the built-in ones, `host.artifacts["0"].source_version`, by id for others
---@field options praxlua.phase.Options what the user asked for
local host = {}

---Asks a person. Where nobody can be asked, and with `--yes`, the answer is the default. The time
---it takes is not counted.
---Grant: none. When: at any time.
---@param question string one line
---@param choices? string[] the possible answers; `yes` and `no` when nil
---@param default? string one of them
---@return string? the answer: one of the choices; nil when nobody answers and there is no default
function host.ask(question, choices, default) end

---Notes something. It appears in the JSON events only.
---Grant: none. When: at any time.
---@param text any what to note; no table
---@return true
function host.log(text) end

---Says what is being done, and how far it is.
---Grant: none. When: at any time.
---@param text any what is done; no table
---@param fraction? number done so far, 0 to 1
---@return true
function host.progress(text, fraction) end

---Runs a granted tool and waits for its end. There is no shell; the tool is looked for on `PATH`;
---its working directory is the project, its environment a short list. A tool may write in a
---temporary directory of its own and in caches, and in the installation only after an undo was
---registered with `host.undo`. None outlives its phase.
---Grant: `tools = { "NAME" }`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param command praxlua.phase.Command the words, and `stdin` and `timeout` by name: `{ "git",
---  "status", timeout = 30 }`
---@return praxlua.phase.Ended|nil how it ended
---@return string? message
---@return string? code
function host.spawn(command) end

---The present time.
---Grant: none. When: at any time.
---@return string ISO 8601, UTC
function host.time() end

---Registers, before a tool changes anything, the command that takes it back. It is kept on disk
---before the call returns. Registered commands run in reverse order when the upgrade is undone,
---before the files are brought back, and before a phase that was cut short is repeated. Such a
---command can run twice, and must be written for that.
---Grant: `tools = { "NAME" }`. When: after `backup-preparation` and before the end of
---`cleanup-documentation`.
---@param command praxlua.phase.Command as of `host.spawn`, but without `stdin`
---@return true|nil
---@return string? message
---@return string? code
function host.undo(command) end

---Tells a person something that does not stop the upgrade.
---Grant: none. When: at any time.
---@param text any what to tell; no table
---@return true
function host.warn(text) end

---A whole number, from `min` to `max`.
---@param parameters? { max: number?, min: number? }
---@return praxlua.phase.Model
function integer(parameters) end

---A finite number, from `min` to `max`.
---@param parameters? { max: number?, min: number? }
---@return praxlua.phase.Model
function number(parameters) end

---A text; `one_of` lists the allowed ones, the lengths are in bytes.
---@param parameters? { max_length: integer?, min_length: integer?, one_of: string[]? }
---@return praxlua.phase.Model
function string_of(parameters) end

---true or false; with `equals`, only that one.
---@param parameters? { equals: boolean? }
---@return praxlua.phase.Model
function boolean(parameters) end

---Anything that has a JSON form.
---@param parameters? {  }
---@return praxlua.phase.Model
function any(parameters) end

---A sequence of values of one type, at most `max`.
---@param of praxlua.phase.Model
---@param max? integer
---@return praxlua.phase.Model
function array_of(of, max) end

---Texts to values of one type, at most `max` of them.
---@param of praxlua.phase.Model
---@param max? integer
---@return praxlua.phase.Model
function map_of(of, max) end

---A table with exactly these fields.
---@param fields table<string, praxlua.phase.Model>
---@return praxlua.phase.Model
function object(fields) end

---A field that may be left out.
---@param of praxlua.phase.Model
---@return praxlua.phase.Model
function optional(of) end

---A field that may be nil when a field `NAME_reason` beside it says why, in one word such as
---`not_run`.
---@param of praxlua.phase.Model
---@return praxlua.phase.Model
function nullable(of) end

---Evidence that the host fills in itself: how often that verb succeeded in this phase. A phase
---that returns the field all the same must return the same.
---@param verb string `"target.write"`
---@return praxlua.phase.Model
function receipts_of(verb) end

---Evidence that the host fills in itself: what that verb answered last in this phase, null when
---it was never called.
---@param verb string `"backup.create_backup"`
---@param field? string of the answer; the whole answer when nil
---@return praxlua.phase.Model
function answer_of(verb, field) end

---Gives back what a call returned, or fails the phase with the host's message.
---`need(host.target.read(path))` is the usual way to call the host.
---@param value any first result of a call
---@param message? string second one
---@param ... any
---@return any
---@return any ...
function need(value, message, ...) end

---1024
---@type integer
KiB = 1024

---1024 KiB
---@type integer
MiB = 1048576

---1024 MiB
---@type integer
GiB = 1073741824
