-- What all scripts know of stored runs: how a head is written, and where a run stands in the index.
--
-- No script by itself: it is put before the others. It defines locals only, for a global would outlive the call,
-- and few, for they are made anew each time.
--
-- The field `head` of a run's hash is thirteen lines, `snapshot` its snapshot. No name holds a control character;
-- times are sixteen digits, so that they sort as text. The index is ordered by bytes, not by scores (all are 0): an
-- entry of `wakes` or `leases` is
--     workflow \n time \n run id
-- and one of `births` time \n run id. \11, the character after \n, is past all that begins with the same parts.

-- version, writer, records, bytes, attempt, wake, token, expires, workflow and created, status, updated, event
local HEAD = '^(%d+)\n([^\n]*)\n(%d+)\n(%d+)\n(%d+)\n(%d*)\n([^\n]*)\n(%d+)\n([^\n]+\n%d+)\n(%l+)\n(%d+)\n([^\n]*)$'
local GARBLED = 'its head is not as it was written'

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

local function is_over(status)
  return status == 'completed' or status == 'failed' or status == 'cancelled'
end

-- The index and the entry of it where a run stands: by its lease, else by its wake, else nowhere.
local function stand(workflow, wake, token, expires, id, wakes, leases)
  if token ~= '' then return leases, workflow .. '\n' .. expires .. '\n' .. id end
  if wake ~= '' then return wakes, workflow .. '\n' .. wake .. '\n' .. id end
end

local function move(from, before, to, after)
  if from == to and before == after then return end
  if before then redis.call('ZREM', from, before) end
  if after then redis.call('ZADD', to, 0, after) end
end
