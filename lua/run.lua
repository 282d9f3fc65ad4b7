-- What all scripts know of a stored run: how its head is read and judged, and where it stands in the index.
--
-- No script by itself: it is put before those that need it. It defines locals only, for a global
-- would outlive the call. Readings never raise, so that one bad entry cannot stop a batch halfway.
--
-- The index is ordered by bytes and not by scores: every entry has the score 0. An entry of `wakes` or `leases` is
--     workflow \n time, sixteen digits \n run id
-- and one of `births` the same without the workflow. No name holds a control character, so \n ends each part,
-- and \11, the character after it, is past everything that begins with the same parts.

local OVER = {running = false, suspended = false, waiting = false, completed = true, failed = true, cancelled = true}

-- This server's clock in milliseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whole numbers as text: tostring() would write 1.7e+12.
local function whole(number)
  return string.format('%.0f', number)
end

local function number(text)
  return text and #text <= 16 and string.find(text, '^%d+$') and tonumber(text) or nil
end

-- The id of the run whose head is under this key.
local function id_of(run)
  return string.sub(run, string.find(run, ':run:', 1, true) + 5)
end

-- What is wrong with a head, or nil.
local function fault(head, row)
  if not head.workflow or head.workflow == '' or string.find(head.workflow, '[\1-\31]') then
    return 'its workflow is no name'
  end
  if OVER[head.status] == nil then return 'its status is none' end
  if not (head.version and head.attempt and head.created and head.updated and head.expires and head.bytes) then
    return 'a number of its head is missing or garbled'
  end
  if not head.wake and row[4] ~= '' then return 'its wake is garbled' end
  for at = 8, #row do
    if not row[at] then return 'a field of its head is missing' end
  end
end

-- The head under this key; nil where there is none; nil and what is wrong where it is none of ours.
local function read(run, ...)
  local row = redis.pcall('HMGET', run, 'workflow', 'status', 'version', 'wake', 'attempt', 'created', 'updated',
                          'token', 'expires', 'writer', 'bytes', ...)
  if row.err then return nil, row.err end
  if not row[1] and not row[3] and redis.call('EXISTS', run) == 0 then return nil end
  local head = {
    row = row, workflow = row[1], status = row[2], version = number(row[3]), wake = number(row[4]),
    attempt = number(row[5]), created = number(row[6]), updated = number(row[7]), token = row[8],
    expires = number(row[9]), writer = row[10], bytes = number(row[11]),
  }
  local wrong = fault(head, row)
  if wrong then return nil, wrong end
  return head
end

-- The length of a log, or nil and what is wrong with it.
local function length(log)
  local records = redis.pcall('LLEN', log)
  if type(records) == 'table' then return nil, records.err end
  return records
end

local function place(workflow, time, id)
  return string.format('%s\n%016.0f\n%s', workflow, time, id)
end

local function birth(created, id)
  return string.format('%016.0f\n%s', created, id)
end

-- The index and the entry of it where a run stands: by its lease, else by its wake, else nowhere.
local function stand(head, id, wakes, leases)
  if head.token ~= '' then return leases, place(head.workflow, head.expires, id) end
  if head.wake then return wakes, place(head.workflow, head.wake, id) end
end

local function move(from, before, to, after)
  if from == to and before == after then return end
  if before then redis.call('ZREM', from, before) end
  if after then redis.call('ZADD', to, 0, after) end
end

-- Put an entry that is not where its run stands where it belongs. Nothing where it is gone by now.
local function correct(index, entry, to, after)
  if redis.call('ZREM', index, entry) == 1 and after then redis.call('ZADD', to, 0, after) end
end

-- The workflows that have entries in an index, by one step for each.
local function workflows(index)
  local names, from = {}, '-'
  while true do
    local entry = redis.call('ZRANGEBYLEX', index, from, '+', 'LIMIT', 0, 1)[1]
    if not entry then return names end
    names[#names + 1] = string.match(entry, '^[^\n]*')
    from = '[' .. names[#names] .. '\11'
  end
end
