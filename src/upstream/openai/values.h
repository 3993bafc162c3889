// Small readers of JSON values: what is absent, null or of another type is nothing.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "inference/event.h"

namespace cyllm::upstream {

std::string_view ReadText(const boost::json::object& object, std::string_view key);
std::optional<int64_t> ReadInteger(const boost::json::object& object, std::string_view key);
std::optional<double> ReadNumber(const boost::json::object& object, std::string_view key);
// Token ids; nothing also when one is not of 32 bits.
std::optional<std::vector<int32_t>> ReadIds(const boost::json::object& object, std::string_view key);
// OpenAI's usage object with its details.
Usage ReadUsage(const boost::json::object& object);

}  // namespace cyllm::upstream
