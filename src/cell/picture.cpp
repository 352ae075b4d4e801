#include "cell/picture.hpp"

#include <cairo-svg.h>
#include <cairo.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

#include "cell/model.hpp"
#include "cell/png.hpp"

namespace myelin::cell {
namespace {

// Colours have 16 levels a channel, so that a PNG's palette has them exactly.
struct Colour {
  int r, g, b;
};
constexpr Colour black{2, 2, 3}, grey{8, 8, 8}, pale{13, 13, 14}, shade{15, 15, 13};
constexpr Colour blue{1, 5, 12}, red{13, 2, 2}, green{1, 9, 4}, amber{14, 9, 0};
constexpr Colour pale_blue{11, 12, 15}, pale_red{15, 12, 12}, pale_green{11, 14, 12};

struct Range {
  double low = 0, high = 1;
};

struct Ticks {
  std::vector<double> at;
  int decimals = 0;
};

// Steps of 1, 2 or 5 times a power of ten, about `wanted` of them.
double nice_step(const Range& range, int wanted) {
  const double rough = (range.high - range.low) / wanted;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double part = rough / power;
  return (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10) * power;
}

Ticks ticks_of(const Range& range, int wanted) {
  const double step = nice_step(range, wanted);
  Ticks ticks;
  ticks.decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 9);
  const double first = std::ceil(range.low / step - 1e-9);
  for (int i = 0; i < 100; ++i) {
    const double at = (first + i) * step;
    if (at > range.high + step * 1e-6) break;
    ticks.at.push_back(std::fabs(at) < step * 1e-6 ? 0 : at);
  }
  return ticks;
}

// From the data to whole ticks.
Range widened(Range range, int wanted) {
  if (!(range.high > range.low)) {
    const double room = std::max(1.0, std::fabs(range.low) * 0.1);
    range = {range.low - room, range.low + room};
  }
  const double step = nice_step(range, wanted);
  return {std::floor(range.low / step + 1e-6) * step, std::ceil(range.high / step - 1e-6) * step};
}

std::optional<Range> range_of(std::span<const double> values) {
  std::optional<Range> range;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    if (!range) range = Range{v, v};
    range->low = std::min(range->low, v);
    range->high = std::max(range->high, v);
  }
  return range;
}

std::string text_of(double v, int decimals) {
  std::array<char, 40> text;
  if (std::fabs(v) >= 1e7)
    std::snprintf(text.data(), text.size(), "%.4g", v);
  else
    std::snprintf(text.data(), text.size(), "%.*f", decimals, v);
  std::string out = text.data();
  if (!out.empty() && out[0] == '-') out = "\u2212" + out.substr(1);
  return out;
}

struct Key {
  std::string text;
  Colour colour;
  bool hollow = false;
};

enum class Anchor { left, centre, right };

// A plot: where it is on the page, and what its axes mean.
class Panel {
 public:
  Panel(cairo_t* page, double left, double top, double width, double height, double size)
      : page_(page), left_(left), top_(top), width_(width), height_(height), size_(size) {}

  Range x, y;
  bool logarithmic = false;

  double to_x(double value) const { return left_ + (value - x.low) / (x.high - x.low) * width_; }
  double to_y(double value) const {
    const auto scaled = [&](double v) { return logarithmic ? std::log10(v) : v; };
    const double part = (scaled(value) - scaled(y.low)) / (scaled(y.high) - scaled(y.low));
    return top_ + height_ - std::clamp(part, -1.0, 2.0) * height_;
  }
  double left() const { return left_; }
  double width() const { return width_; }

  void set(Colour c) { cairo_set_source_rgb(page_, c.r / 15.0, c.g / 15.0, c.b / 15.0); }

  double text(const std::string& what, double at_x, double at_y, Anchor anchor, bool bold = false,
              double scale = 1) {
    cairo_select_font_face(page_, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(page_, size_ * scale);
    cairo_text_extents_t box;
    cairo_text_extents(page_, what.c_str(), &box);
    const double shift = anchor == Anchor::left     ? 0
                         : anchor == Anchor::centre ? box.x_advance / 2
                                                    : box.x_advance;
    cairo_move_to(page_, std::round(at_x - shift), std::round(at_y));
    cairo_show_text(page_, what.c_str());
    return box.x_advance;
  }

  void shaded(double from, double to) {
    const double a = std::clamp(to_x(from), left_, left_ + width_),
                 b = std::clamp(to_x(to), left_, left_ + width_);
    set(shade);
    cairo_rectangle(page_, std::round(a), top_, std::round(b) - std::round(a), height_);
    cairo_fill(page_);
  }

  // Grid, ticks with numbers, labels; the title on the left above, the legend on the right.
  void frame(const std::string& title, const std::string& x_label, const std::string& y_label,
             const std::vector<Key>& keys) {
    cairo_set_line_width(page_, 1);
    const Ticks across = ticks_of(x, 10);
    Ticks up = ticks_of(y, 6);
    if (logarithmic) {
      up.at.clear();
      for (double decade = y.low; decade <= y.high * 1.001; decade *= 10) up.at.push_back(decade);
    }
    set(pale);
    const auto crisp = [](double v) { return std::floor(v) + 0.5; };
    for (const double v : across.at) {
      cairo_move_to(page_, crisp(to_x(v)), top_);
      cairo_line_to(page_, crisp(to_x(v)), top_ + height_);
    }
    for (const double v : up.at) {
      cairo_move_to(page_, left_, crisp(to_y(v)));
      cairo_line_to(page_, left_ + width_, crisp(to_y(v)));
    }
    cairo_stroke(page_);
    set(grey);
    cairo_move_to(page_, crisp(left_), top_);
    cairo_line_to(page_, crisp(left_), crisp(top_ + height_));
    cairo_line_to(page_, left_ + width_, crisp(top_ + height_));
    for (const double v : across.at) {
      cairo_move_to(page_, crisp(to_x(v)), crisp(top_ + height_));
      cairo_rel_line_to(page_, 0, 6);
    }
    for (const double v : up.at) {
      cairo_move_to(page_, crisp(left_), crisp(to_y(v)));
      cairo_rel_line_to(page_, -6, 0);
    }
    cairo_stroke(page_);
    set(black);
    for (const double v : across.at)
      text(text_of(v, across.decimals), to_x(v), top_ + height_ + 8 + size_, Anchor::centre);
    for (const double v : up.at) {
      const int decimals =
          logarithmic ? std::max(0, static_cast<int>(-std::floor(std::log10(v) + 0.01))) : up.decimals;
      text(text_of(v, decimals), left_ - 11, to_y(v) + size_ * 0.36, Anchor::right);
    }
    text(x_label, left_ + width_ / 2, top_ + height_ + 14 + 2.2 * size_, Anchor::centre);
    cairo_save(page_);
    cairo_translate(page_, left_ - 4.6 * size_, top_ + height_ / 2);
    cairo_rotate(page_, -M_PI / 2);
    text(y_label, 0, 0, Anchor::centre);
    cairo_restore(page_);
    text(title, left_, top_ - 0.65 * size_, Anchor::left, true, 1.1);

    double right = left_ + width_;
    for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
      set(black);
      right -= text(key->text, right, top_ - 0.65 * size_, Anchor::right);
      right -= 0.7 * size_;
      dot(right, top_ - 1.0 * size_, 0.3 * size_, key->colour, key->hollow);
      right -= 1.6 * size_;
    }
  }

  void dot(double at_x, double at_y, double radius, Colour colour, bool hollow = false) {
    cairo_new_path(page_);
    cairo_arc(page_, at_x, at_y, hollow ? radius - 0.75 : radius, 0, 2 * M_PI);
    set(colour);
    if (hollow) {
      cairo_set_line_width(page_, 1.5);
      cairo_stroke(page_);
    } else {
      cairo_fill(page_);
    }
  }

  void inside() {
    cairo_save(page_);
    cairo_rectangle(page_, left_, top_ - 1, width_ + 1, height_ + 2);
    cairo_clip(page_);
  }
  void outside() { cairo_restore(page_); }

  // Equally spaced samples over the whole axis: of each column its lowest and highest, in their order.
  void trace(std::span<const double> samples, Colour colour, double line_width) {
    if (samples.size() < 2) return;
    inside();
    const double per_sample = width_ / static_cast<double>(samples.size() - 1);
    const auto columns = static_cast<std::size_t>(width_);
    bool drawing = false;
    const auto to = [&](std::size_t i) {
      if (!std::isfinite(samples[i])) {
        drawing = false;
        return;
      }
      const double at_x = left_ + static_cast<double>(i) * per_sample;
      drawing ? cairo_line_to(page_, at_x, to_y(samples[i])) : cairo_move_to(page_, at_x, to_y(samples[i]));
      drawing = true;
    };
    if (samples.size() <= 3 * columns) {
      for (std::size_t i = 0; i < samples.size(); ++i) to(i);
    } else {
      for (std::size_t column = 0; column < columns; ++column) {
        const std::size_t begin = column * samples.size() / columns,
                          end = (column + 1) * samples.size() / columns;
        std::size_t low = begin, high = begin;
        for (std::size_t i = begin; i < end; ++i) {
          if (!std::isfinite(samples[i])) low = high = i;
          if (samples[i] < samples[low]) low = i;
          if (samples[i] > samples[high]) high = i;
        }
        to(std::min(low, high));
        if (low != high) to(std::max(low, high));
      }
      to(samples.size() - 1);
    }
    set(colour);
    cairo_set_line_width(page_, line_width);
    cairo_set_line_join(page_, CAIRO_LINE_JOIN_BEVEL);
    cairo_stroke(page_);
    outside();
  }

  // A curve that may jump: drawn in pieces.
  void curve(std::span<const double> at, std::span<const double> values, std::span<const double> jumps,
             Colour colour) {
    inside();
    for (std::size_t i = 0; i < at.size(); ++i) {
      const bool jump =
          i == 0 || std::ranges::any_of(jumps, [&](double v) { return at[i - 1] <= v && v < at[i]; });
      jump ? cairo_move_to(page_, to_x(at[i]), to_y(values[i]))
           : cairo_line_to(page_, to_x(at[i]), to_y(values[i]));
    }
    set(colour);
    cairo_set_line_width(page_, 2);
    cairo_stroke(page_);
    outside();
  }

  // Where samples were, of values that are functions of `at`: one dot per column of pixels, joined where they
  // touch and no jump lies between.
  void visited(std::span<const double> at, std::span<const double> values, std::span<const double> jumps,
               Colour colour) {
    constexpr std::size_t none = SIZE_MAX;
    std::vector<std::size_t> columns(static_cast<std::size_t>(width_) + 1, none);
    for (std::size_t i = 0; i < at.size(); ++i) {
      const double px = to_x(at[i]) - left_;
      if (!(px >= 0 && px <= width_) || !std::isfinite(values[i])) continue;
      std::size_t& first = columns[static_cast<std::size_t>(px)];
      if (first == none) first = i;
    }
    inside();
    std::size_t before = none, before_column = 0;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const std::size_t i = columns[c];
      if (i == none) continue;
      const bool apart = before == none || c - before_column > 5 || std::ranges::any_of(jumps, [&](double v) {
                           return std::min(at[before], at[i]) <= v && v <= std::max(at[before], at[i]);
                         });
      const double px = to_x(at[i]), py = to_y(values[i]);
      if (apart) cairo_move_to(page_, px, py);
      cairo_line_to(page_, px, py);
      before = i;
      before_column = c;
    }
    set(colour);
    cairo_set_line_width(page_, 5);
    cairo_set_line_cap(page_, CAIRO_LINE_CAP_ROUND);
    cairo_set_line_join(page_, CAIRO_LINE_JOIN_BEVEL);
    cairo_stroke(page_);
    outside();
  }

 private:
  cairo_t* page_;
  double left_, top_, width_, height_, size_;
};

constexpr int voltage_ticks = 6;

void draw_voltage(Panel& panel, const PictureInput& in) {
  const auto range = range_of(in.outcome.v_mV);
  panel.x = {0, in.run.cell.tstop};
  panel.y = widened(range.value_or(Range{-100, 50}), voltage_ticks);
  panel.shaded(in.run.cell.dur_start, in.run.amp_nA == 0 ? in.run.cell.dur_start : in.run.cell.dur_end);
  std::array<char, 64> title;
  std::snprintf(title.data(), title.size(),
                in.run.amp_nA == 0 ? "Voltage without stimulus" : "Voltage at %.4g nA", in.run.amp_nA);
  std::string text = title.data();
  if (const auto sign = text.find(" at -"); sign != text.npos) text.replace(sign + 4, 1, "\u2212");
  if (!in.outcome.finite) text += " (it left the range of numbers)";
  std::vector<Key> keys{{"v", blue}};
  if (in.run.amp_nA != 0) keys.push_back({"stimulus", {14, 14, 9}});
  panel.frame(text, "time (ms)", "mV", keys);
  panel.trace(in.outcome.v_mV, blue, 1.6);
}

void draw_fi(Panel& panel, std::span<const FiPoint> fi) {
  std::vector<double> at, all, inside;
  for (const FiPoint& p : fi) {
    at.push_back(p.current_nA);
    all.push_back(p.frequency_Hz);
    inside.push_back(p.frequency_in_stimulus_Hz);
  }
  const Range currents = range_of(at).value_or(Range{});
  const double margin = std::max(0.05, (currents.high - currents.low) * 0.05);
  panel.x = {currents.low - margin, currents.high + margin};
  panel.y = widened({0, std::max(1.0, range_of(all).value_or(Range{}).high * 1.05)}, voltage_ticks);
  panel.y.low = -0.06 * panel.y.high;  // room for dots at 0
  panel.frame("Firing rate", "Injected current (nA)", "frequency (Hz)",
              {{"all spikes of the run", amber}, {"spikes within the stimulus", black, true}});
  panel.curve(at, all, {}, {15, 13, 8});
  for (std::size_t i = 0; i < fi.size(); ++i) {
    panel.dot(panel.to_x(at[i]), panel.to_y(all[i]), 6, amber);
    panel.dot(panel.to_x(at[i]), panel.to_y(inside[i]), 9, black, true);
  }
}

// The curves as thin lines, thick where the run was.
void draw_gates(Panel& gates_panel, Panel& taus_panel, const PictureInput& in) {
  const Parameters& p = in.run.cell;
  const Rates& rates = in.outcome.rates;
  const Range seen = range_of(in.outcome.v_mV).value_or(Range{-100, 50});
  const Range voltages = widened({std::max(seen.low - 5, -1e6), std::min(seen.high + 5, 1e6)}, 10);
  std::vector<double> v(600);
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = voltages.low +
           (voltages.high - voltages.low) * static_cast<double>(i) / static_cast<double>(v.size() - 1);
  const Rates lines = rates_at(p, v);

  gates_panel.x = voltages;
  gates_panel.y = {-0.04, 1.04};
  gates_panel.frame("Where the gates go", "voltage (mV)", "Probability",
                    {{"m\u221e of na1", red}, {"l\u221e of the h current", blue}, {"n\u221e of k1", green}});
  const double m_jump[] = {p.seg2}, l_jump[] = {p.seg3}, n_jump[] = {p.seg1};
  gates_panel.curve(v, lines.m_inf, m_jump, pale_red);
  gates_panel.curve(v, lines.l_inf, l_jump, pale_blue);
  gates_panel.curve(v, lines.n_inf, n_jump, pale_green);
  gates_panel.visited(in.outcome.v_mV, rates.m_inf, m_jump, red);
  gates_panel.visited(in.outcome.v_mV, rates.l_inf, l_jump, blue);
  gates_panel.visited(in.outcome.v_mV, rates.n_inf, n_jump, green);

  Range taus{1e300, 0};
  for (const auto* each : {&lines.tau_m, &lines.tau_l, &lines.tau_n})
    for (const double tau : *each) {
      if (!(std::isfinite(tau) && tau > 1e-6 && tau < 1e12)) continue;
      taus.low = std::min(taus.low, tau);
      taus.high = std::max(taus.high, tau);
    }
  if (!(taus.high > 0)) taus = {0.1, 1};
  taus_panel.x = voltages;
  taus_panel.logarithmic = true;
  taus_panel.y = {std::pow(10, std::floor(std::log10(taus.low))),
                  std::pow(10, std::ceil(std::log10(taus.high * 1.01)))};
  taus_panel.frame(
      "How fast they get there", "voltage (mV)", "time constant (ms)",
      {{"\u03c4 of m (na1)", red}, {"\u03c4 of l (h current)", blue}, {"\u03c4 of n (k1)", green}});
  taus_panel.curve(v, lines.tau_m, {}, pale_red);
  taus_panel.curve(v, lines.tau_l, {}, pale_blue);
  taus_panel.curve(v, lines.tau_n, {}, pale_green);
  taus_panel.visited(in.outcome.v_mV, rates.tau_m, {}, red);
  taus_panel.visited(in.outcome.v_mV, rates.tau_l, {}, blue);
  taus_panel.visited(in.outcome.v_mV, rates.tau_n, {}, green);
}

void draw_page(cairo_t* page, const PictureInput& in) {
  cairo_set_source_rgb(page, 1, 1, 1);
  cairo_paint(page);
  if (in.fi.empty()) {
    Panel panel(page, 95, 50, 870, 465, 17);
    draw_voltage(panel, in);
    return;
  }
  constexpr double left = 115, width = 1445, height = 225, row = 348, first = 50, size = 19;
  std::array<Panel, 4> panels{{{page, left, first, width, height, size},
                               {page, left, first + row, width, height, size},
                               {page, left, first + 2 * row, width, height, size},
                               {page, left, first + 3 * row, width, height, size}}};
  draw_voltage(panels[0], in);
  draw_fi(panels[1], in.fi);
  draw_gates(panels[2], panels[3], in);
}

using Surface = std::unique_ptr<cairo_surface_t, decltype(&cairo_surface_destroy)>;
using Page = std::unique_ptr<cairo_t, decltype(&cairo_destroy)>;

}  // namespace

std::string draw(const PictureInput& in, PictureFormat format) {
  const int width = in.fi.empty() ? 1000 : 1600, height = in.fi.empty() ? 600 : 1400;
  std::string out;
  if (format == PictureFormat::svg) {
    const auto append = [](void* to, const unsigned char* data, unsigned length) {
      static_cast<std::string*>(to)->append(reinterpret_cast<const char*>(data), length);
      return CAIRO_STATUS_SUCCESS;
    };
    const Surface surface(cairo_svg_surface_create_for_stream(append, &out, width, height),
                          cairo_surface_destroy);
    {
      const Page page(cairo_create(surface.get()), cairo_destroy);
      draw_page(page.get(), in);
    }
    cairo_surface_finish(surface.get());
    return out;
  }
  const Surface surface(cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height), cairo_surface_destroy);
  {
    const Page page(cairo_create(surface.get()), cairo_destroy);
    draw_page(page.get(), in);
  }
  cairo_surface_flush(surface.get());
  const auto* pixels = reinterpret_cast<const std::uint32_t*>(cairo_image_surface_get_data(surface.get()));
  return encode_png(pixels, static_cast<std::uint32_t>(width), static_cast<std::uint32_t>(height),
                    static_cast<std::size_t>(cairo_image_surface_get_stride(surface.get())) / sizeof *pixels);
}

}  // namespace myelin::cell
