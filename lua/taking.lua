-- Taking a run, for claim.lua and acquire.lua; needs run.lua and head.lua.

-- The head under this lease, as lines. Whoever finds a lease that ran out counts one more dead holder.
local function take(run, head, token, expires, wakes, leases)
  local id = id_of(run)
  local from, before = place(head, id, wakes, leases)
  if head.token ~= '' and head.token ~= token then head.attempt = head.attempt + 1 end
  head.token, head.expires = token, expires
  local lines = lines_of(head)
  redis.call('HSET', run, 'head', lines)
  move(from, before, place(head, id, wakes, leases))
  return lines
end
