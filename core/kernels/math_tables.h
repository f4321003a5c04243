// Constants of the vector functions in math-inl.h and angles-inl.h, for each computing type.
//
// Polynomials are near-minimax fits, lowest power first; the comment gives the largest error of the fit. Those of the
// logarithm are from fdlibm (Sun Microsystems 1993, e_log.c) and its single-precision version.
#pragma once

namespace espalier::kernels {

/// Klambauer, Unterthiner, Mayr and Hochreiter 2017, equation 14.
inline constexpr double selu_alpha = 1.6732632423543772848170429916717;
inline constexpr double selu_lambda = 1.0507009873554804934193349852946;

template <class T>
struct MathTables;

template <>
struct MathTables<float> {
  static constexpr int mantissa_bits = 23;
  static constexpr float exponent_bias = 127.0f;
  static constexpr float rounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr float smallest_normal = 1.17549435e-38f;

  static constexpr float exp_lowest = -104.0f, exp_highest = 89.0f;  // beyond them 0 and infinity
  static constexpr float exp_normal = 87.0f;  // up to there the result is normal, for either sign
  static constexpr float expm1_lowest = -20.0f, tanh_highest = 10.0f;
  static constexpr float exp_ln2_high = 0.693359375f, exp_ln2_low = -2.12194440e-4f;  // n * high is exact
  /// (exp(r) - 1 - r) / r^2 for |r| <= ln(2)/2: 1.5e-9.
  static constexpr float exp_rest[] = {5.000000000e-01f, 1.666666716e-01f, 4.166645557e-02f,
                                       8.333310485e-03f, 1.393454149e-03f, 1.989198063e-04f};

  static constexpr float log_ln2_high = 6.9313812256e-01f, log_ln2_low = 9.0580006145e-06f;
  static constexpr float log_series[] = {6.6666662693e-01f, 4.0000972152e-01f, 2.8498786688e-01f, 2.4279078841e-01f};
  static constexpr float log10_2_high = 3.007812500e-01f, log10_2_low = 2.487456640e-04f;

  static constexpr float circle_limit = 8000.0f;  // sin and cos of anything larger go through std::
  static constexpr float half_pi[] = {1.570312500e+00f, 4.837512970e-04f, 7.549533620e-08f, 2.563344068e-12f};
  /// (sin(r)/r - 1) / r^2 for |r| <= pi/4, in r^2: 3e-11.
  static constexpr float sin_rest[] = {-1.666666716e-01f, 8.333331905e-03f, -1.984003902e-04f, 2.724378191e-06f};
  /// (cos(r) - 1 + r^2/2) / r^4, in r^2: 2e-9.
  static constexpr float cos_rest[] = {4.166666418e-02f, -1.388827921e-03f, 2.454287096e-05f};

  static constexpr float quarter_pi_high = 7.853981852531433e-01f, quarter_pi_low = -2.1855695e-08f;
  /// (atan(r)/r - 1) / r^2 for r <= tan(pi/8), in r^2: 2.7e-9.
  static constexpr float atan_rest[] = {-3.333333176e-01f, 1.999954048e-01f, -1.426395560e-01f, 1.074373149e-01f,
                                        -6.451928210e-02f};
  static constexpr float angle_largest = 8e37f;  // sides beyond it are scaled down
  static constexpr float area_largest = 1e6f;    // beyond it asinh(x) = log(2 x)

  /// (atanh(s)/s - 1) / s^2 for s <= 1/3, in s^2: 1.2e-10.
  static constexpr float atanh_rest[] = {3.33333374476e-01f, 1.99994652513e-01f, 1.43078062799e-01f, 1.07200930060e-01f,
                                         1.21287408465e-01f};

  static constexpr float erf_highest = 3.95f;  // erf is 1 beyond
  /// -log(erfc(z)) / z - 1 on [0, erf_highest]: the error of erf is 4e-9 of its value.
  static constexpr float log_erfc[] = {1.2837917161e-01f,   6.36619382004e-01f,  1.02777830082e-01f,
                                       -1.91530621074e-02f, -1.60399713139e-04f, 1.66703139755e-03f,
                                       -6.32839155950e-04f, 1.17641955686e-04f,  -9.25634599925e-06f};

  static constexpr float gelu_highest = 7.0f;
  /// -log of the normal distribution at -z, on [0, gelu_highest]: 7.5e-9, and beyond 2 that times half its value.
  static constexpr float log_normal[] = {
      6.93147173046e-01f,  7.97884892574e-01f,  3.18307569292e-01f,  3.63408677808e-02f, -4.78430668424e-03f,
      -4.66682935358e-05f, 2.31907332256e-04f,  -7.13684300829e-05f, 1.30460149691e-05f, -1.58442069548e-06f,
      1.25529553681e-07f,  -5.88580510949e-09f, 1.23928872729e-10f};
  static constexpr float erfc_highest = 10.5f;     // erfc is 0 beyond
  static constexpr float normal_highest = 13.26f;  // exp(-x^2/2) is 2^-bias there
  /// (1 + 2 z) exp(z^2) erfc(z) in (z - 3)/(z + 3): 3.8e-9.
  static constexpr float erfcx[] = {1.253008008e+00f,  -1.356211454e-01f, -4.756231979e-02f, 1.296467185e-01f,
                                    -1.192719191e-01f, 6.829302758e-02f,  -2.379466407e-02f, 2.576856408e-03f,
                                    2.001771238e-03f,  -7.881207275e-04f, -2.735960006e-04f};
};

template <>
struct MathTables<double> {
  static constexpr int mantissa_bits = 52;
  static constexpr double exponent_bias = 1023.0;
  static constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double smallest_normal = 2.2250738585072014e-308;

  static constexpr double exp_lowest = -746.0, exp_highest = 710.0;
  static constexpr double exp_normal = 708.0;
  static constexpr double expm1_lowest = -40.0, tanh_highest = 20.0;
  static constexpr double exp_ln2_high = 6.93147180369123816490e-01, exp_ln2_low = 1.90821492927058770002e-10;
  /// 1.6e-18.
  static constexpr double exp_rest[] = {5.00000000000000000e-01, 1.66666666666666713e-01, 4.16666666666666713e-02,
                                        8.33333333332554431e-03, 1.38888888888833275e-03, 1.98412698768643558e-04,
                                        2.48015873270071872e-05, 2.75572528335169111e-06, 2.75572718102198004e-07,
                                        2.51062747335732955e-08, 2.09154422977801163e-09};

  static constexpr double log_ln2_high = 6.93147180369123816490e-01, log_ln2_low = 1.90821492927058770002e-10;
  static constexpr double log_series[] = {6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
                                          2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
                                          1.479819860511658591e-01};
  static constexpr double log10_2_high = 3.01029995663157023955e-01, log10_2_low = 8.24171258602357198e-13;

  static constexpr double circle_limit = 1e6;
  static constexpr double half_pi[] = {1.57079632673412561e+00, 6.07710050630396598e-11, 2.02226624871116646e-21,
                                       8.47842766036889957e-32};
  /// 1.3e-20.
  static constexpr double sin_rest[] = {-1.66666666666666657e-01, 8.33333333333333148e-03,  -1.98412698412645666e-04,
                                        2.75573192189547624e-06,  -2.50521061002559899e-08, 1.60585108753191948e-10,
                                        -7.58548648523593842e-13};
  /// 7.4e-22.
  static constexpr double cos_rest[] = {4.16666666666666644e-02,  -1.38888888888888873e-03, 2.48015873015843674e-05,
                                        -2.75573192211891020e-07, 2.08767557175844028e-09,  -1.14704493544667732e-11,
                                        4.74519880720287603e-14};

  static constexpr double quarter_pi_high = 7.853981633974483e-01, quarter_pi_low = 3.0616169978683829431e-17;
  /// 7.3e-21.
  static constexpr double atan_rest[] = {
      -3.3333333333333333329e-01, 1.9999999999999991542e-01, -1.4285714285711518602e-01, 1.1111111110754729458e-01,
      -9.0909090670099900838e-02, 7.6923067360001734713e-02, -6.6666420200551661522e-02, 5.8819252531928635581e-02,
      -5.2580415542977796376e-02, 4.7193950300274329928e-02, -4.1044362657550819859e-02, 3.0635704112969497094e-02,
      -1.3918229291024428415e-02};
  static constexpr double angle_largest = 4e307, area_largest = 1e10;

  /// 7.4e-20.
  static constexpr double atanh_rest[] = {
      3.3333333333333339719e-01, 1.9999999999996348526e-01, 1.4285714286387791761e-01, 1.1111111050883383754e-01,
      9.0909121743997612169e-02, 7.6922093813993897572e-02, 6.6687035872575673373e-02, 5.8545324506631506327e-02,
      5.5104665381257462663e-02, 3.4019962164270488797e-02, 8.3942877847889852466e-02};

  /// erf(x)/x - 1 for |x| <= 1, in x^2: 2.2e-21.
  static constexpr double erf_rest[] = {1.28379167095512586e-01,  -3.76126389031837538e-01, 1.12837916709551206e-01,
                                        -2.68661706451298402e-02, 5.22397762542329853e-03,  -8.54832702193482970e-04,
                                        1.20553329028887357e-04,  -1.49256475675193321e-05, 1.64620454414684182e-06,
                                        -1.63646421581676160e-07, 1.47924012094048135e-08,  -1.21645600572834498e-09,
                                        8.70904512905310619e-11,  -4.23094582429533771e-12};
  static constexpr double erfc_highest = 27.5;
  static constexpr double normal_highest = 37.65;
  /// 8.5e-18.
  static constexpr double erfcx[] = {
      1.25300805826972961e+00,  -1.35621106124581114e-01, -4.75622943534530079e-02, 1.29645158702751645e-01,
      -1.19273663415170803e-01, 6.83080273443582853e-02,  -2.37705149219102317e-02, 2.52939180864499664e-03,
      1.88869039815630474e-03,  -7.79832191877173923e-04, -1.05160064631472554e-04, 1.25098825155159804e-04,
      4.95057254384721814e-06,  -2.00983545260916703e-05, -7.34250384409708159e-07, 3.46635148538274841e-06,
      3.60882898765202223e-07,  -6.05864842598962238e-07, -1.44409493047957412e-07, 8.98662236222503551e-08,
      4.13716100673342319e-08,  -5.73286928786273633e-09, -6.54480963716271912e-09, -1.09483681277940748e-09};
};

}  // namespace espalier::kernels
