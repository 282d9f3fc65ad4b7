-- load(run, log; whole) -> {{field, …}, {record, …}} | nil
--
--   run  hash    the head
--   log  list    the records
--
-- One call, so that head and log are of one moment; the log only where it is asked for ('1'). What the fields
-- say is judged by who reads them.

local row = redis.call('HMGET', KEYS[1], 'workflow', 'status', 'version', 'wake', 'attempt', 'created', 'updated',
                       'token', 'expires', 'writer', 'bytes', 'event', 'snapshot')
if not row[1] and not row[3] and redis.call('EXISTS', KEYS[1]) == 0 then return false end
return {row, ARGV[1] == '1' and redis.call('LRANGE', KEYS[2], 0, -1) or {}}
