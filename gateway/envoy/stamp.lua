-- Runs on every call after the model's name was taken out of the message, before the route is chosen for good:
-- stamps the model, its version and the absolute deadline, all once, so that a retry finds them unchanged.
-- BOUNDS (milliseconds, by method path, by service, "" for the rest) is put in front by gateway/envoy/filters.py.

local MILLISECONDS = { H = 3600000, M = 60000, S = 1000, m = 1, u = 0.001, n = 0.000001 }
-- Longer than any name a route knows: a clipped name never matches one.
local LONGEST_NAME = 200

local function escape(byte)
  return string.format("%%%02X", string.byte(byte))
end

-- Puts what the message says in one of its fields into a header, where it says something.
local function put(headers, header, values)
  local name = values and values[1]
  if name and name ~= "" then
    -- A name is the caller's text: only what may stand in a header gets there as it is.
    headers:replace(header, string.gsub(string.sub(name, 1, LONGEST_NAME), "[^%w%._/-]", escape))
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()

  local path = headers:get(":path") or ""
  -- A gRPC path has no query, and by now all is gRPC. A replica that finds bytes in it which no path may have drops the
  -- connection, and with it the calls of others.
  local bare = string.match(path, "^[^?]*")
  if bare ~= path then
    path = bare
    headers:replace(":path", path)
  end
  local bounds = BOUNDS[path] or BOUNDS[string.match(path, "^/([^/]+)/") or ""] or BOUNDS[""]
  -- 0: it lasts as long as the caller wants, as a watch does.
  local timeout = bounds[1]
  -- Not grpc-timeout: by now Envoy has put the route's maximum there, where the caller sent none.
  local count, unit = string.match(headers:get("x-sensorium-timeout") or "", "^(%d+)([HMSmun])$")
  if count and #count <= 8 then
    timeout = math.min(tonumber(count) * MILLISECONDS[unit], bounds[2])
  end
  if timeout > 0 or count then
    timeout = math.floor(timeout)
    local start = tonumber(headers:get("x-sensorium-start")) or handle:timestamp()
    headers:replace("x-sensorium-deadline", string.format("%d", start + timeout))
    headers:replace("grpc-timeout", string.format("%dm", timeout))
  end
  headers:remove("x-sensorium-start")
  headers:remove("x-sensorium-timeout")

  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.grpc_field_extraction")
  if found then
    put(headers, "x-sensorium-model", found["model_name"] or found["name"] or found["model"])
    put(headers, "x-sensorium-version", found["model_version"] or found["version"])
  end
  handle:clearRouteCache()
end
