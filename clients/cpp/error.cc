#include "error.h"

#include <google/protobuf/util/time_util.h>

#include "google/rpc/code.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sensorium {

Error::Error(const grpc::Status& status, const grpc::ClientContext& context)
    : std::runtime_error(status.error_message()),
      code_(status.error_code()),
      name_(google::rpc::Code_Name(static_cast<google::rpc::Code>(status.error_code()))) {
  const auto& trailers = context.GetServerTrailingMetadata();
  if (const auto found = trailers.find("x-request-id"); found != trailers.end())
    request_id_.assign(found->second.data(), found->second.size());

  // The trailer grpc-status-details-bin, a google.rpc.Status. One that some proxy damaged leaves code and
  // message.
  google::rpc::Status said;
  if (!said.ParseFromString(status.error_details())) return;
  for (const auto& detail : said.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    google::rpc::RetryInfo retry;
    google::rpc::RequestInfo request;
    if (detail.UnpackTo(&info)) {
      reason_ = info.reason();
    } else if (detail.UnpackTo(&bad)) {
      for (const auto& violation : bad.field_violations())
        violations_.push_back({violation.field(), violation.description()});
    } else if (detail.UnpackTo(&retry)) {
      retry_after_ = std::chrono::milliseconds(
          google::protobuf::util::TimeUtil::DurationToMilliseconds(retry.retry_delay()));
    } else if (detail.UnpackTo(&request)) {
      request_id_ = request.request_id();
    }
  }
}

}  // namespace sensorium
