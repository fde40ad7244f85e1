-- Runs on replies in JSON: what a replica says in its trailers of how the reply came about, and of when to come back, goes
-- into headers. NAMES is put in front by gateway/envoy/headers.py.

function envoy_on_response(handle)
  -- Only a reply that is whole has a length; a stream is not held back.
  if not handle:headers():get("content-length") then
    return
  end
  -- Headers wait until the body was seen; the trailers are there then.
  handle:body()
  local trailers = handle:trailers()
  local found = {}
  if trailers then
    for _, name in ipairs(NAMES) do
      found[name] = trailers:get(name)
    end
  end
  -- What was taken before a wait is no longer good.
  local headers = handle:headers()
  local pushback = headers:get("grpc-retry-pushback-ms") or (trailers and trailers:get("grpc-retry-pushback-ms"))
  local after_ms = pushback and tonumber(pushback)
  if after_ms then
    found["retry-after"] = string.format("%d", math.max(1, math.ceil(after_ms / 1000)))
  end
  for name, value in pairs(found) do
    headers:replace(name, value)
  end
end
