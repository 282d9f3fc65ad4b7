-- What all scripts know of a stored run: how its head is written, and where it stands in the index.
--
-- No script by itself: it is put before those that need it. It defines locals only, for a global would outlive
-- the call, and few, for they are made anew each time. Reading never raises, so that one bad entry cannot stop
-- a batch halfway.
--
-- The field `head` of a run's hash is thirteen lines, `snapshot` its snapshot. No name holds a control character;
-- times are sixteen digits, so that they sort as text. The index is ordered by bytes, not by scores (all are 0): an
-- entry of `wakes` or `leases` is
--     workflow \n time \n run id
-- and one of `births` time \n run id. \11, the character after \n, is past all that begins with the same parts.

local HEAD = '^(%d+)\n(%l+)\n([^\n]+)\n(%d*)\n([^\n]*)\n(%d+)\n(%d+)\n(%d+)\n(%d+)\n(%d+)\n([^\n]*)\n(%d+)\n([^\n]*)$'

-- This server's clock in milliseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function digits(time)
  return string.format('%016.0f', time)
end

-- The id of the run whose head is under this key.
local function id_of(run)
  return string.sub(run, string.find(run, ':run:', 1, true) + 5)
end

-- The head that these lines are, all its parts as text; nil where they are none.
local function parse(lines)
  local version, status, workflow, wake, event, attempt, created, updated, records, bytes, token, expires, writer =
    string.match(lines, HEAD)
  local over = status == 'completed' or status == 'failed' or status == 'cancelled'
  if not (over or status == 'running' or status == 'suspended' or status == 'waiting') then return nil end
  return {
    version = version, status = status, workflow = workflow, wake = wake, event = event, attempt = attempt,
    created = created, updated = updated, records = records, bytes = bytes, token = token, expires = expires,
    writer = writer, over = over,
  }
end

-- The head under this key; nil where there is none; nil and what is wrong where there is something else.
local function read(run)
  local lines = redis.pcall('HGET', run, 'head')
  if type(lines) == 'string' then
    local head = parse(lines)
    return head, not head and 'its head is not as it was written' or nil
  end
  if lines then return nil, lines.err end
  return nil, redis.call('EXISTS', run) == 1 and 'its head is missing' or nil
end

-- What is wrong with the log of a head, or nil.
local function damage(head, log)
  local records = redis.pcall('LLEN', log)
  if type(records) == 'table' then return records.err end
  if records ~= tonumber(head.records) then return 'it has ' .. records .. ' records of ' .. head.records end
end

local function lines_of(head)
  return head.version .. '\n' .. head.status .. '\n' .. head.workflow .. '\n' .. head.wake .. '\n' .. head.event ..
    '\n' .. head.attempt .. '\n' .. head.created .. '\n' .. head.updated .. '\n' .. head.records .. '\n' ..
    head.bytes .. '\n' .. head.token .. '\n' .. head.expires .. '\n' .. head.writer
end

-- The index and the entry of it where a run stands: by its lease, else by its wake, else nowhere.
local function stand(head, id, wakes, leases)
  if head.token ~= '' then return leases, head.workflow .. '\n' .. head.expires .. '\n' .. id end
  if head.wake ~= '' then return wakes, head.workflow .. '\n' .. head.wake .. '\n' .. id end
end

local function move(from, before, to, after)
  if from == to and before == after then return end
  if before then redis.call('ZREM', from, before) end
  if after then redis.call('ZADD', to, 0, after) end
end
