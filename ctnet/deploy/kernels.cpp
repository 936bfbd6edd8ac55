// Tensor separable convolutions and gated sums on clips whose memory is ordered N, T, H, W, C. Float32, no dependency
// but a compiler: `ctnet.deploy.kernels` builds this file once for the processor it runs on.
//
// A library's grouped convolution reaches a third of the rate of its dense one: a group has too few channels to fill
// its tiles. Here a tile is as many pixels as keep the multipliers busy, whatever the group.
#include <algorithm>
#include <cstdint>
#include <vector>

namespace {
#if defined(__AVX512F__)
constexpr int L = 16;
#elif defined(__AVX__)
constexpr int L = 8;
#else
constexpr int L = 4;
#endif
typedef float Vector __attribute__((vector_size(L * 4)));
typedef float Loose __attribute__((vector_size(L * 4), aligned(4), may_alias));

inline Vector load(const float* p) { return (Vector) * (const Loose*)p; }

struct Job {
  std::vector<const float*> rows;  // one for each row of the kernel, null outside the clip
  int64_t taps, ci, lanes, stride; // taps in a row; channels in; channels out, padded; floats between output pixels
  bool relu;
};

// P pixels from x0 on, V vectors of output channels.
template <int P, int V, int CI>
__attribute__((noinline)) void tile(const Job& job, int64_t x0, const float* w, const float* bias, float* out,
                                    int64_t valid) {
  const int64_t ci = CI ? CI : job.ci, span = job.taps * ci, lanes = job.lanes;
  Vector sum[P][V];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[p][v] = load(bias + v * L);
  for (const float* row : job.rows) {
    if (!row) {
      w += span * lanes;
      continue;
    }
    row += x0 * ci;
#pragma GCC unroll 4
    for (int64_t i = 0; i < span; ++i, w += lanes) {  // the taps of a pixel lie one after the other
      Vector k[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) k[v] = load(w + v * L);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[p][v] += k[v] * row[p * ci + i];
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Vector zero = {}, a = job.relu ? (sum[p][v] < zero ? zero : sum[p][v]) : sum[p][v];
      float* o = out + (x0 + p) * job.stride + v * L;
      if (valid >= (v + 1) * L) {
        *(Loose*)o = (Loose)a;
      } else if (valid > v * L) {
        float part[L];
        *(Loose*)part = (Loose)a;
        std::copy_n(part, valid - v * L, o);
      }
    }
}

template <int V, int CI>
void row(const Job& job, int64_t width, const float* w, const float* bias, float* out, int64_t valid) {
  constexpr int P = 8 / V;  // 8 sums at once hide the latency of a multiply-add
  int64_t x = 0;
  for (; x + P <= width; x += P) tile<P, V, CI>(job, x, w, bias, out, valid);
  for (; x + P / 2 <= width; x += P / 2) tile<P / 2, V, CI>(job, x, w, bias, out, valid);
  for (; x < width; ++x) tile<1, V, CI>(job, x, w, bias, out, valid);
}

template <int V>
void row_of(int64_t ci, const Job& job, int64_t width, const float* w, const float* bias, float* out, int64_t valid) {
  const auto f = ci == 8 ? row<V, 8> : ci == 16 ? row<V, 16> : ci == 32 ? row<V, 32> : row<V, 0>;
  f(job, width, w, bias, out, valid);
}

// One group's channels of a row of pixels, side by side, with zeros on both sides.
void gather(const float* from, int64_t channels, int64_t ci, int64_t width, int64_t pad, float* to) {
  to = std::fill_n(to, pad * ci, 0.f);
  for (int64_t x = 0; x < width; ++x, from += channels) {
    if (ci % L == 0)
      for (int64_t c = 0; c < ci; c += L, to += L) *(Loose*)to = *(const Loose*)(from + c);
    else
      to = std::copy_n(from, ci, to);
  }
  std::fill_n(to, pad * ci, 0.f);
}
}  // namespace

extern "C" {
int64_t lanes() { return L; }

// A convolution of `kr` x `kw` taps over rows and the pixels in them, in `groups` of `ci` to `co` channels.
// x: `planes` x `strips` of `nrows` rows of `width` pixels (`last` in the last strip); the strides are in pixels.
// w: (groups, kr, kw, ci, lanes), bias: (groups, lanes), zero beyond `co`.
void ts_conv(const float* x, const float* w, const float* bias, float* out, const int64_t* shape) {
  const int64_t planes = shape[0], plane = shape[1], strips = shape[2], width = shape[3], last = shape[4],
                nrows = shape[5], stride = shape[6], groups = shape[7], ci = shape[8], co = shape[9], lanes = shape[10],
                kr = shape[11], kw = shape[12], relu = shape[13];
  const int64_t size = (width + kw - 1) * ci;
#pragma omp parallel
  {
    std::vector<float> ring(kr * size);  // the rows under the kernel
    Job job{std::vector<const float*>(kr), kw, ci, lanes, groups * co, relu != 0};
#pragma omp for collapse(3)
    for (int64_t a = 0; a < planes; ++a)
      for (int64_t b = 0; b < strips; ++b)
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t pixels = b == strips - 1 ? last : width, start = a * plane + b * width;
          for (int64_t r = 0, ready = 0; r < nrows; ++r) {
            for (; ready <= r + kr / 2 && ready < nrows; ++ready)
              gather(x + (start + ready * stride) * groups * ci + g * ci, groups * ci, ci, pixels, kw / 2,
                     &ring[ready % kr * size]);
            for (int64_t k = 0; k < kr; ++k) {
              const int64_t at = r + k - kr / 2;
              job.rows[k] = at < 0 || at >= nrows ? nullptr : &ring[at % kr * size];
            }
            for (int64_t v = 0; v < lanes; v += 2 * L) {
              const float *kernel = w + g * kr * kw * ci * lanes + v, *shift = bias + g * lanes + v;
              float* to = out + (start + r * stride) * groups * co + g * co + v;
              if (lanes - v >= 2 * L)
                row_of<2>(ci, job, pixels, kernel, shift, to, co - v);
              else
                row_of<1>(ci, job, pixels, kernel, shift, to, co - v);
            }
          }
        }
  }
}

// (N, T, H*W, C), weighted by (N, H*W, C) unless that is null, averaged over H*W: (N, T, C).
void spatial_mean(const float* x, const float* weight, float* out, int64_t n, int64_t t, int64_t hw, int64_t c) {
#pragma omp parallel for
  for (int64_t i = 0; i < n * t; ++i) {
    float* sum = out + i * c;
    std::fill_n(sum, c, 0.f);
    const float *from = x + i * hw * c, *by = weight ? weight + i / t * hw * c : nullptr;
    for (int64_t p = 0; p < hw; ++p, from += c) {
      if (by) {
        for (int64_t j = 0; j < c; ++j) sum[j] += from[j] * by[j];
        by += c;
      } else {
        for (int64_t j = 0; j < c; ++j) sum[j] += from[j];
      }
    }
    for (int64_t j = 0; j < c; ++j) sum[j] /= hw;
  }
}

// u * s * a + v * b, with u and v (N, T, H*W, C), s (N, H*W, C), a and b (N, T, C); written over u.
void gated_sum(float* u, const float* s, const float* a, const float* v, const float* b, int64_t n, int64_t t,
               int64_t hw, int64_t c) {
#pragma omp parallel for
  for (int64_t i = 0; i < n * t; ++i)
    for (int64_t p = 0; p < hw; ++p) {
      float* to = u + (i * hw + p) * c;
      const float *second = v + (i * hw + p) * c, *gate = s + (i / t * hw + p) * c;
      for (int64_t j = 0; j < c; ++j) to[j] = to[j] * gate[j] * a[i * c + j] + second[j] * b[i * c + j];
    }
}
}
