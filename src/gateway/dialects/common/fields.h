// Typed reading of a JSON object's fields. The first mistake is kept; what follows it reads as absent.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace cyllm::dialect {

class Fields {
 public:
  // `path` goes before each field's name in errors: "" or "stream_options.".
  explicit Fields(boost::json::object& object, std::string path = {})
      : object_(object), path_(std::move(path)) {}

  // Null counts as absent everywhere. `name` outlives this.
  boost::json::value* Find(std::string_view name) const;
  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  std::optional<bool> Bool(std::string_view name);
  std::optional<std::string> String(std::string_view name);
  std::optional<int64_t> Integer(std::string_view name, int64_t min, int64_t max);
  std::optional<double> Number(std::string_view name, double min, double max);
  boost::json::object* Object(std::string_view name);
  boost::json::array* Array(std::string_view name);

  std::optional<std::vector<std::string>> Strings(std::string_view name, size_t max);  // or one string

  void Fail(std::string_view name, std::string_view what);  // "'name' must be ..."
  void Fail(Status status);
  // An object of the members that nobody has asked for, as JSON; empty: there are none.
  std::string RestJson() const;

  const Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

 private:
  boost::json::object& object_;
  const std::string path_;
  mutable std::vector<std::string_view> asked_;
  Status status_;
};

// INVALID_ARGUMENT unless `body` is a JSON object. Of fields given twice the last one counts.
Result<boost::json::object> ParseObject(std::string_view body);

// The string at `key`; empty when there is none.
std::string_view TextOf(const boost::json::object& object, std::string_view key);

// The field `model`; "default" when absent.
std::string ReadModel(Fields& fields);

// RequestFacts::affinity by what OpenAI's bodies say of the caller: prompt_cache_key, safety_identifier or
// user, the first that is there. 0: none. Hints only: what is no text is no mistake.
uint64_t ReadAffinity(const boost::json::object& object);
// Of one such text; 0 when it is empty.
uint64_t AffinityOf(std::string_view text);

// INVALID_ARGUMENT: "'param' what."
Status Wrong(std::string_view param, std::string_view what);

// A text of the client for a message: short, whole.
std::string Shown(const boost::json::value& value);

}  // namespace cyllm::dialect
