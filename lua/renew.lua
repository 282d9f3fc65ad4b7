-- renew(leases, run, run, …; ttl, token, token, …) -> {at, …} of those that are still held
--
--   leases  zset    index of the held runs, by expiry
--   run     hash    the head of each run

local ttl, now, held = tonumber(ARGV[1]), clock(), {}
for at = 1, #ARGV - 1 do
  local head = read(KEYS[at + 1])
  if head and head.token == ARGV[at + 1] then held[#held + 1] = {at = at, run = KEYS[at + 1], head = head} end
end

local renewed = {}
for _, hold in ipairs(held) do
  local id, head = id_of(hold.run), hold.head
  redis.call('HSET', hold.run, 'expires', whole(now + ttl))
  move(KEYS[1], place(head.workflow, head.expires, id), KEYS[1], place(head.workflow, now + ttl, id))
  renewed[#renewed + 1] = hold.at
end
return renewed
