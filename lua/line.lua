-- Looking at candidates before anything is done with them, for due.lua and claim.lua; needs run.lua.
--
-- Between two calls anybody may have taken or deleted a run, so each entry is held against its head.
-- Nothing is written while looking; what was found wrong is set right by `tidy` afterwards.

-- A head as HEAD has it, in the pieces between the parts that a take changes.
local PIECES = '^(%d+\n[^\n]*\n(%d+)\n(%d+)\n)(%d+)\n(%d*)\n([^\n]*)\n(%d+)\n(([^\n]+)\n%d+\n(%l+)\n%d+\n[^\n]*)$'

local function split(entries)
  local found = {}
  for entry in string.gmatch(entries, '[^\t]+') do found[#found + 1] = entry end
  return found
end

-- The run under this key, its snapshot with it; nil where there is none; nil and what is wrong where there is
-- something else.
local function look(run)
  local stored = redis.pcall('HMGET', run, 'head', 'snapshot')
  if stored.err then return nil, tostring(stored.err) end
  local lines, snapshot = stored[1], stored[2]
  if not (lines and snapshot) then
    return nil, (lines or redis.call('EXISTS', run) == 1) and 'its head or its snapshot is missing' or nil
  end
  local front, records, bytes, attempt, wake, token, expires, back, workflow, status = string.match(lines, PIECES)
  if not (status == 'suspended' or status == 'waiting' or status == 'running' or is_over(status)) then
    return nil, GARBLED
  end
  return {
    front = front, records = tonumber(records), bytes = tonumber(bytes), attempt = attempt, wake = wake, token = token,
    expires = expires, back = back, workflow = workflow, snapshot = snapshot,
  }
end

-- What is wrong with a log that should have so many records, or nil.
local function damage(log, records)
  local length = redis.pcall('LLEN', log)
  if type(length) == 'table' then return tostring(length.err) end
  if length ~= records then return 'it has ' .. length .. ' records of ' .. records end
end

local function stand_of(found, run, wakes, leases)
  return stand(found.workflow, found.wake, found.token, found.expires, id_of(run), wakes, leases)
end

-- Whether the entry of this index is where the run stands and, if that is by its lease, that has run out.
local function is_due(found, run, index, entry, wakes, leases, now)
  local at, own = stand_of(found, run, wakes, leases)
  return own == entry and at == index and (at == wakes or tonumber(found.expires) <= now)
end

-- Drop the entry of a run that is gone, put a stale one where it belongs (nothing where it is gone by now), and
-- move that of an unreadable run to a minute from now, where it does not keep others from their turn. `latest` is
-- the later of the caller's now and ours.
local function tidy(untidy, wakes, leases, latest)
  for _, one in ipairs(untidy) do
    local to, after
    if one.wrong then
      local name, id = string.match(one.entry, '^([^\n]*)\n%d+\n(.*)$')
      to, after = one.index, name .. '\n' .. digits(latest + 60000) .. '\n' .. id
    elseif one.found then
      to, after = stand_of(one.found, one.run, wakes, leases)
    end
    if redis.call('ZREM', one.index, one.entry) == 1 and after then redis.call('ZADD', to, 0, after) end
  end
end
