-- Looking at candidates before anything is done with them, for due.lua and claim.lua; needs run.lua.
--
-- Between two calls anybody may have taken or deleted a run, so each entry is held against its head.
-- Nothing is written while looking; what was found wrong is set right by `tidy` afterwards.

-- Whether the entry of this index is where the run stands and, if that is by its lease, that has run out.
local function is_due(head, index, entry, id, wakes, leases, now)
  local at, own = stand(head, id, wakes, leases)
  return at == index and own == entry and (at == wakes or head.expires <= now)
end

-- Drop the entry of a run that is gone, correct a stale one, and move that of an unreadable run to a minute from now
-- (`latest` is the later of the caller's now and ours), where it does not keep others from their turn.
local function tidy(found, wakes, leases, latest)
  if found.wrong then
    local name, id = string.match(found.entry, '^([^\n]*)\n%d+\n(.*)$')
    correct(found.index, found.entry, found.index, place(name, latest + 60000, id))
  elseif not found.head then
    redis.call('ZREM', found.index, found.entry)
  else
    correct(found.index, found.entry, stand(found.head, found.id, wakes, leases))
  end
end
