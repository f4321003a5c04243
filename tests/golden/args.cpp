#include "tests/golden/args.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace espalier::golden {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& what) { fail<FormatError>("[golden] ", what); }

json parsed(const std::string& text) {
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) refuse("not JSON: " + text.substr(0, 60));
  return value;
}

double to_number(const json& value, const std::string& key) {
  if (value.is_number()) return value.get<double>();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  refuse("argument " + key + " is no number: " + value.dump());
}

/// Integers may be written with a fraction of zero.
Index to_integer(const json& value, const std::string& key) {
  if (value.is_number_integer()) return value.get<Index>();
  const double number = to_number(value, key);
  if (!(number > -9e15 && number < 9e15) || number != static_cast<double>(static_cast<Index>(number)))
    refuse("argument " + key + " is no integer: " + value.dump());
  return static_cast<Index>(number);
}

void append_integers(const json& value, const std::string& key, std::vector<Index>& to) {
  if (!value.is_array()) return to.push_back(to_integer(value, key));
  for (const json& entry : value) append_integers(entry, key, to);
}

}  // namespace

struct Args::Object {
  json value;
  const json& at(const std::string& key) const {
    const auto found = value.find(key);
    if (found == value.end() || found->is_null()) refuse("argument " + key + " is missing");
    return *found;
  }
};

Args::Args() : object_(std::make_shared<const Object>(Object{json::object()})) {}

Args Args::parse(const std::string& text) {
  json value = parsed(text);
  if (!value.is_object()) refuse("arguments are no object: " + text.substr(0, 60));
  return Args(std::make_shared<const Object>(Object{std::move(value)}));
}

bool Args::has(const std::string& key) const {
  const auto found = object_->value.find(key);
  return found != object_->value.end() && !found->is_null();
}
double Args::number(const std::string& key) const { return to_number(object_->at(key), key); }
Index Args::integer(const std::string& key) const { return to_integer(object_->at(key), key); }

bool Args::flag(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  const json& value = object_->at(key);
  if (!value.is_boolean()) refuse("argument " + key + " is neither true nor false: " + value.dump());
  return value.get<bool>();
}

std::string Args::text(const std::string& key) const {
  const json& value = object_->at(key);
  if (!value.is_string()) refuse("argument " + key + " is no string: " + value.dump());
  return value.get<std::string>();
}

bool Args::is_list(const std::string& key) const { return object_->at(key).is_array(); }

std::vector<Index> Args::integers(const std::string& key) const {
  std::vector<Index> result;
  append_integers(object_->at(key), key, result);
  return result;
}

std::vector<double> Args::numbers(const std::string& key) const {
  const json& list = object_->at(key);
  if (!list.is_array()) refuse("argument " + key + " is no list: " + list.dump());
  std::vector<double> result;
  for (const json& entry : list) result.push_back(to_number(entry, key));
  return result;
}

std::vector<Args> Args::objects(const std::string& key) const {
  const json& list = object_->at(key);
  if (!list.is_array()) refuse("argument " + key + " is no list: " + list.dump());
  std::vector<Args> result;
  for (const json& entry : list) result.push_back(parse(entry.dump()));
  return result;
}

Args Args::object(const std::string& key) const { return parse(object_->at(key).dump()); }

void Args::expect(const std::string& key, double only_value) const {
  if (!has(key)) return;
  const json& value = object_->at(key);
  const double number = value.is_boolean() ? (value.get<bool>() ? 1.0 : 0.0) : to_number(value, key);
  if (number != only_value) throw Unsupported{key + " = " + value.dump()};
}

std::vector<std::string> parse_strings(const std::string& text) {
  const json list = parsed(text);
  std::vector<std::string> result;
  for (const json& entry : list) {
    if (!entry.is_string()) refuse("no list of strings: " + text.substr(0, 60));
    result.push_back(entry.get<std::string>());
  }
  return result;
}

std::vector<ViewStep> view_steps(const std::string& views, const std::string& input) {
  const json all = parsed(views);
  std::vector<ViewStep> steps;
  if (!all.contains(input)) return steps;
  for (const json& entry : all.at(input)) {
    if (!entry.is_array() || entry.empty() || !entry[0].is_string()) refuse("no view step: " + entry.dump());
    ViewStep step{entry[0].get<std::string>(), {}};
    for (std::size_t i = 1; i < entry.size(); ++i) append_integers(entry[i], "views", step.numbers);
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace espalier::golden
