#include "examples/temporal_order/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace temporal_order {

using espalier::grouped;
using espalier::with_decimals;

namespace {

constexpr double width = 760, left = 84, right = 34, panel_height = 170, panel_gap = 46, top = 74, bottom = 54;

using Points = std::vector<std::pair<double, double>>;  // in units of the data

struct Arm {
  bool clipped;
  const char *name, *colour;
};
constexpr Arm arms[] = {{false, "unclipped", "#d1495b"}, {true, "clipped", "#1b6ca8"}};

/// Where numbers of the data fall on the page.
struct Axis {
  double low, high, from, to;
  double at(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

/// 1, 2 or 5 times a power of ten, so that at most six steps cover the span.
double tick_step(double span) {
  const double decade = std::pow(10, std::floor(std::log10(span / 6)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * decade * 6 >= span) return factor * decade;
  return 10 * decade;
}

/// At most `most` stretches: those between are joined.
std::vector<Stretch> thinned(const std::vector<Stretch>& curve, std::size_t most) {
  const std::size_t group = (curve.size() + most - 1) / most;
  std::vector<Stretch> result;
  for (std::size_t begin = 0; begin < curve.size(); begin += group) {
    const std::size_t end = std::min(begin + group, curve.size());
    Stretch joined = curve[end - 1];
    joined.error = 0;
    for (std::size_t i = begin; i < end; ++i) {
      joined.error += curve[i].error / static_cast<double>(end - begin);
      joined.largest_norm = std::max(joined.largest_norm, curve[i].largest_norm);
    }
    result.push_back(joined);
  }
  return result;
}

class Drawing final {
 public:
  explicit Drawing(double height) {
    svg_ =
        espalier::join("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", number(width), " ", number(height),
                       "\" role=\"img\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n"
                       "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
  }

  void text(double x, double y, const std::string& words, const std::string& attributes = "") {
    svg_ += espalier::join("<text x=\"", number(x), "\" y=\"", number(y), "\"", attributes.empty() ? "" : " ",
                           attributes, ">", words, "</text>\n");
  }
  void line(double x1, double y1, double x2, double y2, const std::string& attributes) {
    svg_ += espalier::join("<path d=\"M", number(x1), " ", number(y1), "L", number(x2), " ", number(y2), "\" ",
                           attributes, "/>\n");
  }
  void curve(const Arm& arm, const Axis& x, const Axis& y, const Points& points, const std::string& attributes) {
    svg_ += espalier::join("<polyline class=\"", arm.name, "\" fill=\"none\" stroke=\"", arm.colour, "\" ", attributes,
                           " points=\"");
    for (const auto& [a, b] : points) svg_ += number(x.at(a)) + "," + number(y.at(b)) + " ";
    svg_.back() = '"';
    svg_ += "/>\n";
  }
  /// A dot where a run has solved the task, a cross where its gradient was no longer finite.
  void end_mark(const Arm& arm, double x, double y, bool solved) {
    if (solved)
      svg_ += espalier::join("<circle cx=\"", number(x), "\" cy=\"", number(y), "\" r=\"3.5\" fill=\"", arm.colour,
                             "\"/>\n");
    else
      svg_ += espalier::join("<path d=\"M", number(x - 4), " ", number(y - 4), "l8 8m0 -8l-8 8\" stroke=\"", arm.colour,
                             "\" stroke-width=\"2\"/>\n");
  }
  std::string finish() { return svg_ + "</svg>\n"; }

 private:
  static std::string number(double value) { return with_decimals(value, value == std::round(value) ? 0 : 1); }
  std::string svg_;
};

/// Frame, title and ticks of a panel.
void frame(Drawing& d, const Axis& x, const Axis& y, const std::string& title, bool numbers_below) {
  d.text(left, y.to - 9, title, "font-weight=\"bold\"");
  const std::string grid = "stroke=\"#ddd\"", border = "stroke=\"#444\" fill=\"none\"";
  const double step = std::max(1.0, tick_step(x.high));
  for (double tick = 0; tick <= x.high * 1.0001; tick += step) {
    d.line(x.at(tick), y.from, x.at(tick), y.to, grid);
    if (numbers_below) d.text(x.at(tick), y.from + 17, grouped(std::lround(tick)), "text-anchor=\"middle\"");
  }
  d.line(x.from, y.from, x.to, y.from, border);
  d.line(x.from, y.from, x.from, y.to, border);
}

void tick(Drawing& d, const Axis& x, double at, const std::string& words) {
  d.line(x.from, at, x.to, at, "stroke=\"#ddd\"");
  d.text(x.from - 7, at + 4, words, "text-anchor=\"end\"");
}

/// How many of an arm's runs had solved the task by then, as a share.
Points solved_share(const std::vector<Run>& runs, bool clipped, double end) {
  std::vector<double> solved;
  double all = 0;
  for (const Run& r : runs) {
    if (r.clipped != clipped) continue;
    ++all;
    if (r.solved()) solved.push_back(static_cast<double>(r.updates));
  }
  std::sort(solved.begin(), solved.end());
  Points points{{0, 0}};
  for (const double updates : solved) {
    points.emplace_back(updates, points.back().second);
    points.emplace_back(updates, points.back().second + 1 / all);
  }
  points.emplace_back(end, points.back().second);
  return points;
}

/// Decades that hold all norms and the bound.
Axis norm_axis(const std::vector<Run>& runs, const Settings& s, double from, double to) {
  double low = s.clip.value_or(1), high = low;
  for (const Run& r : runs)
    for (const Stretch& stretch : r.curve) {
      if (!(stretch.largest_norm > 0) || !std::isfinite(stretch.largest_norm)) continue;
      low = std::min(low, stretch.largest_norm);
      high = std::max(high, stretch.largest_norm);
    }
  low = std::max(std::floor(std::log10(low)), -6.0);
  return {low, std::max(std::ceil(std::log10(high)), low + 1), from, to};
}

}  // namespace

std::string draw(const std::vector<Run>& runs, const Settings& s) {
  double end = runs.empty() ? static_cast<double>(s.updates) : 1;
  for (const Run& r : runs) end = std::max(end, static_cast<double>(r.updates));
  const Axis x{0, end, left, width - right};
  const auto panel = [&](int k, double low, double high) {
    const double upper = top + k * (panel_height + panel_gap);
    return Axis{low, high, upper + panel_height, upper};
  };
  const Axis share = panel(0, 0, 1), error = panel(1, 0, 1);
  const Axis placed = panel(2, 0, 1), norm = norm_axis(runs, s, placed.from, placed.to);
  Drawing d(norm.from + bottom);

  d.text(left, 24,
         espalier::join("Temporal order, ", s.length, " symbols: ", s.hidden, " tanh units, ", s.init, " start, lr ",
                        s.lr, ", batch ", s.batch),
         "font-size=\"13\" font-weight=\"bold\"");
  double legend = width - right;
  for (const Arm& arm : arms) {
    const auto count = std::count_if(runs.begin(), runs.end(), [&](const Run& r) { return r.clipped == arm.clipped; });
    if (count == 0) continue;
    const std::string bound = arm.clipped ? espalier::join(" at norm ", *s.clip) : "";
    legend -= 150;
    d.line(legend, 42, legend + 24, 42, espalier::join("stroke-width=\"3\" stroke=\"", arm.colour, "\""));
    d.text(legend + 30, 46, arm.name + bound);
  }

  frame(d, x, share, "Seeds that have solved the task", false);
  frame(d, x, error, "Wrong answers of each run (dot: solved; cross: gradient no longer finite)", false);
  frame(d, x, norm, "Largest norm of the gradient, before clipping", true);
  for (const double percent : {0, 25, 50, 75, 100})
    for (const Axis& y : {share, error}) tick(d, x, y.at(percent / 100), with_decimals(percent, 0) + " %");
  const double decades = std::ceil((norm.high - norm.low) / 6);
  for (double power = norm.low; power <= norm.high; power += decades)
    tick(d, x, norm.at(power),
         power < -3 || power > 3 ? "1e" + with_decimals(power, 0) : espalier::join(std::pow(10, power)));
  if (s.clip)
    d.line(x.from, norm.at(std::log10(*s.clip)), x.to, norm.at(std::log10(*s.clip)),
           "stroke=\"#444\" stroke-dasharray=\"5 4\"");
  d.text((x.from + x.to) / 2, norm.from + 38, "updates", "text-anchor=\"middle\"");

  for (const Arm& arm : arms) {
    if (std::none_of(runs.begin(), runs.end(), [&](const Run& r) { return r.clipped == arm.clipped; })) continue;
    d.curve(arm, x, share, solved_share(runs, arm.clipped, end), "stroke-width=\"3\"");
    for (const Run& r : runs) {
      if (r.clipped != arm.clipped || r.curve.empty()) continue;
      Points errors, norms;
      for (const Stretch& stretch : thinned(r.curve, 120)) {
        const double updates = static_cast<double>(stretch.updates);
        errors.emplace_back(updates, stretch.error);
        if (!std::isnan(stretch.largest_norm))
          norms.emplace_back(updates, std::clamp(std::log10(stretch.largest_norm), norm.low, norm.high));
      }
      const std::string thin = "stroke-width=\"1.2\" stroke-opacity=\"0.75\"";
      d.curve(arm, x, error, errors, thin);
      d.curve(arm, x, norm, norms, thin);
      if (r.outcome != "failed") d.end_mark(arm, x.at(errors.back().first), error.at(errors.back().second), r.solved());
    }
  }
  return d.finish();
}

}  // namespace temporal_order
