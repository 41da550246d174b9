--- The MCP server of an installation, as the rest of praxlua uses it. Each of these is described
-- where it is written.
local health = require("praxlua.server.health")
local lifecycle = require("praxlua.server.lifecycle")
local log = require("praxlua.server.log")
local owned = require("praxlua.server.owned")
local restart = require("praxlua.server.restart")
local started = require("praxlua.server.started")

local server = {}

server.find = owned.find

server.health = health.of
server.probe = health.probe
server.run_smoke = health.run_smoke
server.log_errors_since = log.errors_since

server.start = lifecycle.start
server.stop = lifecycle.stop
server.end_starting = lifecycle.end_starting
server.wait_for_server_ready = lifecycle.wait_for_server_ready

server.remember = restart.remember
server.restart_server = restart.restart_server
server.restore = restart.restore

server.check_running = started.check_running
server.watch = started.watch
server.revive = started.revive

return server
