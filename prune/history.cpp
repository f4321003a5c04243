#include "espalier/prune/history.h"

#include <sstream>
#include <utility>

namespace espalier::prune::detail {

void add(PruneHistory& history, PruneEvent event) {
  if (history.empty() || history.back().what != event.what) {
    history.push_back(std::move(event));
    return;
  }
  PruneEvent& last = history.back();
  last.step = event.step;
  last.after = event.after;
  last.times += event.times;
}

Tensor to_tensor(const PruneHistory& history) {
  std::string text;
  for (const PruneEvent& e : history)
    text += join(e.step, " ", e.times, " ", e.before, " ", e.after, " ", e.what, "\n");
  return Tensor::from<std::uint8_t>({text.begin(), text.end()}, {static_cast<Index>(text.size())});
}

PruneHistory history_from(const Tensor& bytes) {
  const std::vector<std::uint8_t> letters = bytes.to_vector<std::uint8_t>();
  std::istringstream text(std::string(letters.begin(), letters.end()));
  PruneHistory history;
  for (std::string line; std::getline(text, line);) {
    std::istringstream in(line);
    PruneEvent e{};
    if (!(in >> e.step >> e.times >> e.before >> e.after) || in.get() != ' ' || !std::getline(in, e.what))
      fail<ConfigError>("[pruner] line ", history.size(),
                        " of 'history' in the saved state says nothing that happened");
    history.push_back(std::move(e));
  }
  return history;
}

}  // namespace espalier::prune::detail
