-- Looking at candidates before anything is done with them, for due.lua and claim.lua; needs run.lua and head.lua.
--
-- Between two calls anybody may have taken or deleted a run, so each entry is held against its head.
-- Nothing is written while looking; what was found wrong is set right by `tidy` afterwards.

local function split(entries)
  local found = {}
  for entry in string.gmatch(entries, '[^\t]+') do found[#found + 1] = entry end
  return found
end

-- The head and the snapshot of a run; nil and what is wrong where they cannot be read.
local function look(run, log)
  local found = redis.pcall('HMGET', run, 'head', 'snapshot')
  if found.err then return nil, tostring(found.err) end
  local head = found[1] and parse(found[1])
  if head and found[2] then
    local wrong = damage(head, log)
    return not wrong and head or nil, wrong, found[2]
  end
  return nil, (found[1] or redis.call('EXISTS', run) == 1) and 'its head or its snapshot is not as it was written' or nil
end

-- Whether the entry of this index is where the run stands and, if that is by its lease, that has run out.
local function is_due(head, index, entry, id, wakes, leases, now)
  local at, own = place(head, id, wakes, leases)
  return at == index and own == entry and (at == wakes or tonumber(head.expires) <= now)
end

-- Drop the entry of a run that is gone, put a stale one where it belongs (nothing where it is gone by now), and
-- move that of an unreadable run to a minute from now, where it does not keep others from their turn. `latest` is
-- the later of the caller's now and ours.
local function tidy(found, wakes, leases, latest)
  local to, after
  if found.wrong then
    local name, id = string.match(found.entry, '^([^\n]*)\n%d+\n(.*)$')
    to, after = found.index, name .. '\n' .. digits(latest + 60000) .. '\n' .. id
  elseif found.head then
    to, after = place(found.head, id_of(found.run), wakes, leases)
  end
  if redis.call('ZREM', found.index, found.entry) == 1 and after then redis.call('ZADD', to, 0, after) end
end
