-- Heads as tables, for all scripts but the saves; needs run.lua.
--
-- Reading never raises, so that one bad entry cannot stop a batch halfway.

-- The head that these lines are, all its parts as text; nil where they are none.
local function parse(lines)
  local version, writer, records, bytes, attempt, wake, token, expires, where, status, updated, event =
    string.match(lines, HEAD)
  local over = is_over(status)
  if not (over or status == 'running' or status == 'suspended' or status == 'waiting') then return nil end
  local workflow, created = string.match(where, '^([^\n]+)\n(%d+)$')
  return {
    version = version, writer = writer, records = records, bytes = bytes, attempt = attempt, wake = wake,
    token = token, expires = expires, workflow = workflow, created = created, status = status, updated = updated,
    event = event, over = over,
  }
end

-- The head under this key; nil where there is none; nil and what is wrong where there is something else.
local function read(run)
  local lines = redis.pcall('HGET', run, 'head')
  if type(lines) == 'string' then
    local head = parse(lines)
    return head, not head and GARBLED or nil
  end
  if lines then return nil, tostring(lines.err) end
  return nil, redis.call('EXISTS', run) == 1 and 'its head is missing' or nil
end

-- What is wrong with the log of a head, or nil.
local function damage(head, log)
  local records = redis.pcall('LLEN', log)
  if type(records) == 'table' then return tostring(records.err) end
  if records ~= tonumber(head.records) then return 'it has ' .. records .. ' records of ' .. head.records end
end

local function lines_of(head)
  return head.version .. '\n' .. head.writer .. '\n' .. head.records .. '\n' .. head.bytes .. '\n' .. head.attempt ..
    '\n' .. head.wake .. '\n' .. head.token .. '\n' .. head.expires .. '\n' .. head.workflow .. '\n' .. head.created ..
    '\n' .. head.status .. '\n' .. head.updated .. '\n' .. head.event
end

local function place(head, id, wakes, leases)
  return stand(head.workflow, head.wake, head.token, head.expires, id, wakes, leases)
end
