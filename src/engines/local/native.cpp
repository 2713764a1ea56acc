// CPU kernels of a decoding step for float32 and bfloat16: RMSNorm, SwiGLU, LoRA products, attention, sampling.
// Products with weights are left to torch, except in bfloat16 on processors with AVX512-BF16. Each row is computed
// independently, so its result depends neither on the number of threads nor on the other rows.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 8;    // rows that `accumulate` adds per pass: fewer loads and stores of the sums
constexpr int BLOCK = 128;  // vocabulary entries summed in float32; sums of blocks are in float64

struct bf16 {
    uint16_t bits;
};

inline float up(float x) { return x; }
inline float up(bf16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline void down(float x, float& to) { to = x; }
inline void down(float x, bf16& to) {  // round to nearest even, keep NaN
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    to.bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// exp(x) for x < 88, relative error 1e-7 (Cephes expf); 0 below the normal range; NaN stays NaN.
inline float exponential(float x) {
    const float y = x < -87.0f ? -87.0f : x;
    const float n = std::nearbyint(y * 1.44269504f);
    const float r = y - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (int32_t(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return x < -87.0f ? 0.0f : p * power;
}

// Residual add and RMSNorm: x += delta (unless null); out = RMSNorm(x) * weight. The residual stream x is float32.
template <class T>
void norm(const T* delta, float* x, const T* weight, T* out, int rows, int size, float epsilon, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int row = 0; row < rows; ++row) {
        float* own = x + int64_t(row) * size;
        const T* added = delta ? delta + int64_t(row) * size : nullptr;
        T* to = out + int64_t(row) * size;
        if (added)
#pragma omp simd
            for (int i = 0; i < size; ++i) own[i] += up(added[i]);
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int i = 0; i < size; ++i) squares += own[i] * own[i];
        const float scale = 1.0f / std::sqrt(squares / size + epsilon);
#pragma omp simd
        for (int i = 0; i < size; ++i) down(own[i] * scale * up(weight[i]), to[i]);
    }
}

// SwiGLU: out = silu(gate) * up, where a row of gate_up holds gate and up side by side.
template <class T>
void swiglu(const T* gate_up, T* out, int rows, int size, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int row = 0; row < rows; ++row) {
        const T* gate = gate_up + int64_t(row) * 2 * size;
        const T* side = gate + size;
        T* to = out + int64_t(row) * size;
#pragma omp simd
        for (int i = 0; i < size; ++i) {
            const float x = up(gate[i]);
            const float small = exponential(-std::fabs(x));  // exp of a non-positive number cannot overflow
            down(x * (x < 0 ? small : 1.0f) / (1.0f + small) * up(side[i]), to[i]);
        }
    }
}

// Vector-matrix product: sums[i] += sum over rows r of factors[r] * table[r][i], LANES rows at a time.
template <class T>
void accumulate(const float* factors, const T* table, int64_t stride, int rows, float* sums, int count) {
    int r = 0;
    for (; r + LANES <= rows; r += LANES) {
        const float* f = factors + r;
        const T* t = table + r * stride;
#pragma omp simd
        for (int i = 0; i < count; ++i)
            sums[i] += ((f[0] * up(t[i]) + f[1] * up(t[stride + i])) +
                        (f[2] * up(t[2 * stride + i]) + f[3] * up(t[3 * stride + i]))) +
                       ((f[4] * up(t[4 * stride + i]) + f[5] * up(t[5 * stride + i])) +
                        (f[6] * up(t[6 * stride + i]) + f[7] * up(t[7 * stride + i])));
    }
    for (; r < rows; ++r)
#pragma omp simd
        for (int i = 0; i < count; ++i) sums[i] += factors[r] * up(table[r * stride + i]);
}

// LoRA: y += (x down) up, for several products of the same input side by side. down is [size, sum of ranks]; up holds
// the [rank, width] matrices of all products, concatenated; y is [rows, sum of widths].
template <class T>
void low_rank(const T* x, const T* down_, const T* up_, T* y, const int64_t* ranks, const int64_t* widths, int products,
              int rows, int size, int threads) {
    int64_t all_ranks = 0, all_widths = 0;
    for (int p = 0; p < products; ++p) all_ranks += ranks[p], all_widths += widths[p];
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> input(size), inner(all_ranks), sums(all_widths);
#pragma omp for
        for (int row = 0; row < rows; ++row) {
            const T* own = x + int64_t(row) * size;
            T* to = y + row * all_widths;
#pragma omp simd
            for (int i = 0; i < size; ++i) input[i] = up(own[i]);
            std::fill(inner.begin(), inner.end(), 0.0f);
            accumulate(input.data(), down_, all_ranks, size, inner.data(), int(all_ranks));
#pragma omp simd
            for (int64_t i = 0; i < all_widths; ++i) sums[i] = up(to[i]);
            const float* factors = inner.data();
            const T* table = up_;
            float* part = sums.data();
            for (int p = 0; p < products; ++p) {
                accumulate(factors, table, widths[p], int(ranks[p]), part, int(widths[p]));
                factors += ranks[p], table += ranks[p] * widths[p], part += widths[p];
            }
#pragma omp simd
            for (int64_t i = 0; i < all_widths; ++i) down(sums[i], to[i]);
        }
    }
}

// Softmax numerators: replaces each score by exp(score - maximum) and returns their sum.
float exponentials(float* scores, int count) {
    float top = scores[0], total = 0;
#pragma omp simd reduction(max : top)
    for (int i = 0; i < count; ++i) {
        const float score = scores[i];  // a copy: with references, the loop is not vectorised
        top = score > top ? score : top;
    }
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < count; ++i) {
        scores[i] = exponential(scores[i] - top);
        total += scores[i];
    }
    return total;
}

// The `count` columns of a row that end at `column` of the ring buffer: one contiguous stretch, or two if they wrap.
struct Stretches {
    int count, starts[2], counts[2];
    Stretches(int count, int column, int width) : count(count) {
        const int first = column + 1 - count;
        starts[0] = first < 0 ? first + width : first, starts[1] = 0;
        counts[0] = first < 0 ? -first : count, counts[1] = first < 0 ? column + 1 : 0;
    }
};

// Decoding attention of one query group: queries [heads, size] (scaled, with rotary positions) over the columns `own`
// of keys [size, width] and values [width, size].
template <class T>
struct Attention {
    std::vector<float> scores, mixed;
    Attention(int, int size, int width) : scores(width), mixed(size) {}

    void operator()(const float* queries, const T* k, const T* v, const Stretches& own, T* out, int heads, int size,
                    int width) {
        for (int head = 0; head < heads; ++head, queries += size, out += size) {
            std::fill_n(scores.begin(), own.count, 0.0f);
            accumulate(queries, k + own.starts[0], width, size, scores.data(), own.counts[0]);
            accumulate(queries, k + own.starts[1], width, size, scores.data() + own.counts[0], own.counts[1]);
            const float total = exponentials(scores.data(), own.count);
            std::fill_n(mixed.begin(), size, 0.0f);
            accumulate(scores.data(), v + int64_t(own.starts[0]) * size, size, own.counts[0], mixed.data(), size);
            accumulate(scores.data() + own.counts[0], v + int64_t(own.starts[1]) * size, size, own.counts[1],
                       mixed.data(), size);
            for (int i = 0; i < size; ++i) down(mixed[i] / total, out[i]);
        }
    }
};

#ifdef __AVX512BF16__
constexpr int QUERIES = 6;  // most queries that share one load of keys or values; their sums fill the registers

// Interleaves two rows of 32 bfloat16 values into pairs, as the dpbf16 instruction expects them.
struct Pairs {
    __m512bh low, high;
    Pairs(__m512i one, __m512i other)
        : low((__m512bh)_mm512_unpacklo_epi16(one, other)), high((__m512bh)_mm512_unpackhi_epi16(one, other)) {}
};

// 32 float32 sums of dpbf16 products, in the interleaved order of `Pairs`; `store` writes them in column order.
struct Sums {
    __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
    void add(const Pairs& pairs, const bf16* factors) {
        int32_t bits;
        std::memcpy(&bits, factors, 4);
        const __m512bh both = (__m512bh)_mm512_set1_epi32(bits);
        low = _mm512_dpbf16_ps(low, pairs.low, both);
        high = _mm512_dpbf16_ps(high, pairs.high, both);
    }
    void store(float* to) const {
        const __m512i order = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        const __m512i rest = _mm512_add_epi32(order, _mm512_set1_epi32(8));
        _mm512_storeu_ps(to, _mm512_permutex2var_ps(low, order, high));
        _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(low, rest, high));
    }
};

// Rounds float32 values to bfloat16; `count` is a multiple of 16.
inline void down(const float* from, bf16* to, int count) {
    for (int i = 0; i < count; i += 16) {
        const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
        std::memcpy(to + i, &rounded, sizeof rounded);
    }
}

// Prefetch into the L2 cache. The keys and values of the next group or row are contiguous with these, but are read with
// a stride that the hardware prefetcher does not detect. A prefetch past the end of memory has no effect.
inline void fetch(const bf16* at) { _mm_prefetch((const char*)at, _MM_HINT_T1); }

// Scores of N queries with `count` columns of keys. Columns are processed 32 at a time, so up to 31 entries past
// `count` are written too.
template <int N>
void score(const bf16* queries, const bf16* keys, int64_t width, int size, int count, float* scores, int64_t room) {
    for (int at = 0; at < count; at += 32) {
        const __mmask32 some = count - at < 32 ? (1u << (count - at)) - 1 : ~0u;
        Sums sums[N];
        for (int i = 0; i < size; i += 2) {
            const bf16* from = keys + i * width + at;
            const Pairs pairs(_mm512_maskz_loadu_epi16(some, from), _mm512_maskz_loadu_epi16(some, from + width));
            fetch(from + size * width), fetch(from + size * width + width);
            for (int n = 0; n < N; ++n) sums[n].add(pairs, queries + n * size + i);
        }
        for (int n = 0; n < N; ++n) sums[n].store(scores + n * room + at);
    }
}

// Weighted sum of values for N queries, 64 of the head's dimensions at a time, over both stretches of columns. The
// values of the next group start `each` elements further and are prefetched.
template <int N>
void mix(const bf16* factors, int64_t room, const bf16* values, const Stretches& own, int size, int64_t each,
         float* mixed) {
    Sums sums[N][2];
    for (int stretch = 0; stretch < 2; ++stretch) {
        const bf16* from = values + int64_t(own.starts[stretch]) * size;
        for (int t = 0; t < own.counts[stretch]; t += 2, from += 2 * size) {
            const bool two = t + 1 < own.counts[stretch];
            for (int part = 0; part < 2; ++part) {
                const bf16* at = from + 32 * part;
                const Pairs pairs(_mm512_loadu_si512(at), two ? _mm512_loadu_si512(at + size) : _mm512_setzero_si512());
                fetch(at + each), fetch(at + each + size);
                for (int n = 0; n < N; ++n) sums[n][part].add(pairs, factors + n * room + t);
            }
        }
        factors += own.counts[stretch];
    }
    for (int n = 0; n < N; ++n)
        for (int part = 0; part < 2; ++part) sums[n][part].store(mixed + n * size + 32 * part);
}

// `Attention` with AVX512-BF16 instructions, for head sizes that are multiples of 64. Queries and softmax numerators
// are rounded to bfloat16; sums are float32. All queries of a group (its heads, and several consecutive tokens in a
// prefill) share each load of keys and values.
struct PairedAttention {
    const int room;
    std::vector<bf16> rounded, factors;
    std::vector<float> scores, mixed;
    PairedAttention(int queries, int size, int width)
        : room(width + 32),
          rounded(queries * size),
          factors(QUERIES * room),
          scores(QUERIES * room),
          mixed(QUERIES * size) {}

    // Queries are [tokens, heads, size]. `own` are the columns that the last token attends to; each token before it
    // attends to one column less. Tokens are `stride` elements apart in `out`.
    void operator()(const float* queries, const bf16* k, const bf16* v, const Stretches& own, bf16* out, int heads,
                    int size, int width, int tokens = 1, int64_t stride = 0) {
        using Score = void (*)(const bf16*, const bf16*, int64_t, int, int, float*, int64_t);
        using Mix = void (*)(const bf16*, int64_t, const bf16*, const Stretches&, int, int64_t, float*);
        constexpr Score by_queries[] = {score<1>, score<2>, score<3>, score<4>, score<5>, score<6>};
        constexpr Mix by_factors[] = {mix<1>, mix<2>, mix<3>, mix<4>, mix<5>, mix<6>};
        const int padded = (own.count + 31) / 32 * 32;  // whole vectors; an odd last column is paired with padding
        const int all = tokens * heads, parts = (all + QUERIES - 1) / QUERIES;
        down(queries, rounded.data(), all * size);
        for (int part = 0; part < parts; ++part) {
            const int first = all * part / parts, some = all * (part + 1) / parts - first;
            for (int stretch = 0, at = 0; stretch < 2; at += own.counts[stretch++])
                by_queries[some - 1](&rounded[first * size], k + own.starts[stretch], width, size, own.counts[stretch],
                                     &scores[at], room);
            float totals[QUERIES];
            for (int n = 0; n < some; ++n) {
                float* from = &scores[n * room];
                std::fill(from + own.count - (tokens - 1 - (first + n) / heads), from + padded, -INFINITY);
                totals[n] = exponentials(from, padded);
                down(from, &factors[n * room], padded);
            }
            for (int i = 0; i < size; i += 64)
                by_factors[some - 1](factors.data(), room, v + i, own, size, int64_t(size) * width, &mixed[i]);
            for (int n = 0; n < some; ++n) {
                bf16* to = out + (first + n) / heads * stride + (first + n) % heads * size;
                for (int i = 0; i < size; ++i) mixed[n * size + i] /= totals[n];
                down(&mixed[n * size], to, size);
            }
        }
    }
};
#endif

// Element i of a head after rotary position embedding, which rotates its two halves; sines of the first are negated.
template <class T>
inline float turned(const T* x, const float* cosine, const float* sine, int i, int size) {
    return up(x[i]) * cosine[i] + up(x[i < size / 2 ? i + size / 2 : i - size / 2]) * sine[i];
}

// Decoding attention of one layer: applies rotary positions, writes the new token's keys and values to `column` of the
// ring buffer, and attends to all tokens of the row so far.
// qkv [rows, heads + 2 groups, size]; keys [rows, groups, size, width]; values [rows, groups, width, size].
template <class A, class T>
void attend_by(const T* qkv, const float* cosines, const float* sines, const int64_t* positions, T* keys, T* values,
               T* out, int rows, int heads, int groups, int size, int width, int column, int threads) {
    const int each = heads / groups;
    const float scale = 1.0f / std::sqrt(float(size));
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> queries(each * size);
        A attention(each, size, width);
#pragma omp for collapse(2) schedule(dynamic, 4)
        for (int row = 0; row < rows; ++row)
            for (int group = 0; group < groups; ++group) {
                const T* own = qkv + int64_t(row) * (heads + 2 * groups) * size;
                const float* cosine = cosines + positions[row] * size;
                const float* sine = sines + positions[row] * size;
                T* k = keys + (int64_t(row) * groups + group) * size * width;
                T* v = values + (int64_t(row) * groups + group) * size * width;
                for (int i = 0; i < size; ++i)
                    down(turned(own + (heads + group) * size, cosine, sine, i, size), k[int64_t(i) * width + column]);
                std::memcpy(v + int64_t(column) * size, own + (heads + groups + group) * size, size * sizeof(T));
                for (int head = 0; head < each; ++head)
                    for (int i = 0; i < size; ++i)
                        queries[head * size + i] =
                            turned(own + (group * each + head) * size, cosine, sine, i, size) * scale;
                attention(queries.data(), k, v, Stretches(int(positions[row]) + 1, column, width),
                          out + (int64_t(row) * heads + group * each) * size, each, size, width);
            }
    }
}

// `attend_by` with the fastest attention that supports the type and the head size.
template <class T, class... Rest>
void attend(const T* qkv, const float* cosines, const float* sines, const int64_t* positions, T* keys, T* values,
            T* out, int rows, int heads, int groups, int size, Rest... rest) {
    auto* run = attend_by<Attention<T>, T>;
#ifdef __AVX512BF16__
    if constexpr (std::is_same_v<T, bf16>)
        if (size % 64 == 0) run = attend_by<PairedAttention, T>;
#endif
    run(qkv, cosines, sines, positions, keys, values, out, rows, heads, groups, size, rest...);
}

#ifdef __AVX512BF16__
constexpr int TOKENS = 128;  // prompt tokens per unit of parallel work

// Prefill attention of one layer: causal attention inside each of several concatenated prompts. The first `known`
// tokens of a prompt are a cached prefix: their keys and values are already in keys and values [tokens, groups, size],
// where those of the new tokens are written. qkv [new tokens, heads + 2 groups, size] and out hold new tokens only.
void read(const bf16* qkv, const float* cosines, const float* sines, const int64_t* lengths, const int64_t* known,
          bf16* keys, bf16* values, bf16* out, int prompts, int heads, int groups, int size, int threads) {
    struct Piece {
        int64_t prompt, fresh;  // index of the prompt's token 0 among all tokens, and (virtually) among new tokens
        int first, last;
    };
    const int each = heads / groups, together = std::max(1, QUERIES / each);
    const int64_t stride = int64_t(heads + 2 * groups) * size, kept = int64_t(groups) * size;
    const float scale = 1.0f / std::sqrt(float(size));
    std::vector<Piece> pieces;
    int longest = 0;
    for (int64_t prompt = 0, start = 0, fresh = 0; prompt < prompts; start += lengths[prompt++]) {
        const int length = int(lengths[prompt]);
        longest = std::max(longest, length);
        fresh -= known[prompt];
        for (int first = int(known[prompt]); first < length; first += TOKENS)
            pieces.push_back({start, fresh, first, std::min(first + TOKENS, length)});
        fresh += length;
    }
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> queries(together * each * size), both(size);
        std::vector<bf16> columns(int64_t(size) * longest), rows(int64_t(size) * longest);
        PairedAttention attention(together * each, size, longest);
#pragma omp for schedule(dynamic)
        for (size_t piece = 0; piece < pieces.size(); ++piece)
            for (int token = pieces[piece].first; token < pieces[piece].last; ++token)
                for (int group = 0; group < groups; ++group) {
                    const bf16* key = qkv + (pieces[piece].fresh + token) * stride + (heads + group) * size;
                    const int64_t to = (pieces[piece].prompt + token) * kept + group * size;
                    for (int i = 0; i < size; ++i)
                        both[i] = turned(key, cosines + token * size, sines + token * size, i, size);
                    for (int i = 0; i < size; ++i) down(both[i], keys[to + i]);
                    std::memcpy(values + to, key + kept, size * sizeof(bf16));
                }
#pragma omp for collapse(2) schedule(dynamic)
        for (size_t piece = 0; piece < pieces.size(); ++piece)
            for (int group = 0; group < groups; ++group) {
                const int first = pieces[piece].first, last = pieces[piece].last;
                for (int token = 0; token < last; ++token) {
                    const int64_t from = (pieces[piece].prompt + token) * kept + group * size;
                    for (int i = 0; i < size; ++i) columns[int64_t(i) * last + token] = keys[from + i];
                    std::memcpy(&rows[int64_t(token) * size], values + from, size * sizeof(bf16));
                }
                for (int token = first; token < last; token += together) {
                    const int tokens = std::min(together, last - token);
                    for (int n = 0; n < tokens * each; ++n) {
                        const int at = token + n / each;
                        const bf16* query =
                            qkv + (pieces[piece].fresh + at) * stride + (group * each + n % each) * size;
                        for (int i = 0; i < size; ++i)
                            queries[n * size + i] =
                                turned(query, cosines + at * size, sines + at * size, i, size) * scale;
                    }
                    attention(queries.data(), columns.data(), rows.data(),
                              Stretches(token + tokens, token + tokens - 1, last),
                              out + ((pieces[piece].fresh + token) * heads + group * each) * size, each, size, last,
                              tokens, int64_t(heads) * size);
                }
            }
    }
}
#endif

// Inverse CDF: the first token whose cumulative weight exceeds `uniform` x the total. `sums` are the sums of blocks.
int64_t invert(const std::vector<float>& weights, const std::vector<double>& sums, double uniform) {
    const int64_t size = weights.size();
    double total = 0, before = 0;
    for (double sum : sums) total += sum;
    for (int64_t block = 0; block * BLOCK < size; ++block) {
        double reached = before;
        before += sums[block];
        if (before <= uniform * total) continue;
        for (int64_t i = block * BLOCK; i < std::min(size, (block + 1) * BLOCK); ++i)
            if ((reached += weights[i]) > uniform * total && weights[i] > 0) return i;
    }
    int64_t last = size - 1;  // no token exceeded it, because of rounding: the last token with a positive weight
    while (last > 0 && !(weights[last] > 0)) --last;
    return last;
}

// Top-p: zeroes the weights of all but the smallest set of most likely tokens whose sum reaches `top_p` x the total
// (among equal weights, the lowest ids are kept). A histogram over the leading bits of the weights, which are in
// [0, 1], finds the bucket in which the set ends; only the tokens of that bucket are sorted.
struct Nucleus {
    static constexpr int SHIFT = 18, BUCKETS = (0x3f800000 >> SHIFT) + 1;
    std::vector<double> masses = std::vector<double>(BUCKETS);
    std::vector<int64_t> order;

    static int bucket(float weight) {
        int32_t bits;
        std::memcpy(&bits, &weight, 4);
        return std::max(0, std::min(bits >> SHIFT, BUCKETS - 1));  // clamped: a NaN must not index out of bounds
    }

    void operator()(std::vector<float>& weights, double total, double top_p) {
        std::fill(masses.begin(), masses.end(), 0.0);
        for (float weight : weights) masses[bucket(weight)] += weight;
        double reached = 0;
        int last = BUCKETS - 1;
        while (last > 0 && reached + masses[last] < top_p * total) reached += masses[last--];
        order.clear();
        for (size_t i = 0; i < weights.size(); ++i) {
            const int own = bucket(weights[i]);
            if (own == last && weights[i] >= 0) order.push_back(i);
            if (own < last) weights[i] = 0;
        }
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return weights[a] > weights[b]; });
        bool any = last < BUCKETS - 1;
        for (int64_t i : order) {
            if (any && reached >= top_p * total) weights[i] = 0;
            reached += weights[i], any = true;
        }
    }
};

// Samples a token for each row of logits [rows, size]; also gives its log-probs at the row's temperature and at
// temperature 1. Temperature 0 selects the most likely token.
template <class T>
void draw(const T* logits, const double* temperature, const double* top_p, const double* uniform, int64_t* tokens,
          double* logprobs, double* at_one, int rows, int size, int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> weights(size);
        std::vector<double> sums((size + BLOCK - 1) / BLOCK);
        Nucleus nucleus;
        const auto add_up = [&] {
            double total = 0;
            for (size_t block = 0; block < sums.size(); ++block) {
                float sum = 0;
                const int end = std::min<int>(size, (block + 1) * BLOCK);
#pragma omp simd reduction(+ : sum)
                for (int i = block * BLOCK; i < end; ++i) sum += weights[i];
                total += sums[block] = sum;
            }
            return total;
        };
#pragma omp for
        for (int row = 0; row < rows; ++row) {
            const T* own = logits + int64_t(row) * size;
            const float scale = temperature[row] == 0 ? 1.0f : float(1 / temperature[row]);
            float top = up(own[0]);
#pragma omp simd reduction(max : top)
            for (int i = 0; i < size; ++i) top = std::max(top, up(own[i]));
            const auto weigh = [&](float scale) {
#pragma omp simd
                for (int i = 0; i < size; ++i) weights[i] = exponential((up(own[i]) - top) * scale);
                return add_up();
            };
            const double plain = scale == 1 ? 0 : weigh(1), total = weigh(scale);
            int64_t token = 0;
            if (temperature[row] == 0) {
                while (token + 1 < size && up(own[token]) != top) ++token;
            } else {
                if (top_p[row] < 1) {
                    nucleus(weights, total, top_p[row]);
                    add_up();
                }
                token = invert(weights, sums, uniform[row]);
            }
            tokens[row] = token;
            logprobs[row] = double((up(own[token]) - top) * scale) - std::log(total);
            at_one[row] = scale == 1 ? logprobs[row] : double(up(own[token]) - top) - std::log(plain);
        }
    }
}

#ifdef __AVX512BF16__
// y = x W^T + bias for N rows and WIDTH outputs, accumulated in registers: each weight is loaded once per tile of up to
// ROWS rows. W is packed as [pairs of inputs, outputs, 2], so that one instruction adds the products of an input pair
// to 16 outputs. For every pair, `step` weights from `ahead` are prefetched for the next block.
constexpr int ROWS = 8, WIDTH = 32;

template <int N>
void tile(const bf16* x, const bf16* weight, const bf16* bias, bf16* y, int pairs, int64_t width, const bf16* ahead,
          int step) {
    __m512 sums[N][2];
    for (int half = 0; half < 2; ++half) {
        float start[16] = {};
        for (int i = 0; bias && i < 16; ++i) start[i] = up(bias[16 * half + i]);
        for (int row = 0; row < N; ++row) sums[row][half] = _mm512_loadu_ps(start);
    }
    for (int pair = 0; pair < pairs; ++pair) {
        const bf16* at = weight + int64_t(pair) * 2 * WIDTH;
        fetch(ahead + pair * step);
        if (step > WIDTH) fetch(ahead + pair * step + WIDTH);
        const __m512bh first = (__m512bh)_mm512_loadu_si512(at), second = (__m512bh)_mm512_loadu_si512(at + WIDTH);
        for (int row = 0; row < N; ++row) {
            int32_t inputs;
            std::memcpy(&inputs, x + (int64_t(row) * pairs + pair) * 2, 4);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(inputs);
            sums[row][0] = _mm512_dpbf16_ps(sums[row][0], first, both);
            sums[row][1] = _mm512_dpbf16_ps(sums[row][1], second, both);
        }
    }
    for (int row = 0; row < N; ++row)
        for (int half = 0; half < 2; ++half) {
            const __m256bh rounded = _mm512_cvtneps_pbh(sums[row][half]);
            std::memcpy(y + row * width + 16 * half, &rounded, sizeof rounded);
        }
}

// Reorders W [width, pairs, 2] into blocks of WIDTH outputs, each [pairs, WIDTH, 2], for `tile`. One uint32 is a pair.
void pack(const uint32_t* weight, uint32_t* packed, int pairs, int width, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int block = 0; block < width / WIDTH; ++block)
        for (int pair = 0; pair < pairs; ++pair)
            for (int out = 0; out < WIDTH; ++out)
                packed[(int64_t(block) * pairs + pair) * WIDTH + out] =
                    weight[(int64_t(block) * WIDTH + out) * pairs + pair];
}

// y = x W^T + bias with a packed W: blocks of outputs in parallel, tiles of rows one after the other.
void multiply(const bf16* x, const bf16* weight, const bf16* bias, bf16* y, int rows, int pairs, int width,
              int threads) {
    const int step = 2 * WIDTH / ((rows + ROWS - 1) / ROWS);  // each tile prefetches its share of the next block
    using Tile = void (*)(const bf16*, const bf16*, const bf16*, bf16*, int, int64_t, const bf16*, int);
    constexpr Tile tiles[] = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>, tile<7>, tile<8>};
#pragma omp parallel for num_threads(threads)
    for (int block = 0; block < width / WIDTH; ++block) {
        const int at = block * WIDTH;
        const bf16* own = weight + int64_t(at) * pairs * 2;
        const bf16* ahead = own + int64_t(WIDTH) * pairs * 2;
        for (int row = 0; row < rows; row += ROWS, ahead += pairs * step)
            tiles[std::min(rows - row, ROWS) - 1](x + int64_t(row) * pairs * 2, own, bias ? bias + at : nullptr,
                                                  y + int64_t(row) * width + at, pairs, width, ahead, step);
    }
}
#endif

}  // namespace

#define EXPORT(T, suffix)                                                                                             \
    void norm_##suffix(const T* delta, float* x, const T* weight, T* out, int rows, int size, float epsilon,          \
                       int threads) {                                                                                 \
        norm(delta, x, weight, out, rows, size, epsilon, threads);                                                    \
    }                                                                                                                 \
    void swiglu_##suffix(const T* gate_up, T* out, int rows, int size, int threads) {                                 \
        swiglu(gate_up, out, rows, size, threads);                                                                    \
    }                                                                                                                 \
    void low_rank_##suffix(const T* x, const T* down, const T* up, T* y, const int64_t* ranks, const int64_t* widths, \
                           int products, int rows, int size, int threads) {                                           \
        low_rank(x, down, up, y, ranks, widths, products, rows, size, threads);                                       \
    }                                                                                                                 \
    void attend_##suffix(const T* qkv, const float* cosines, const float* sines, const int64_t* positions, T* keys,   \
                         T* values, T* out, int rows, int heads, int groups, int size, int width, int column,         \
                         int threads) {                                                                               \
        attend(qkv, cosines, sines, positions, keys, values, out, rows, heads, groups, size, width, column, threads); \
    }                                                                                                                 \
    void draw_##suffix(const T* logits, const double* temperature, const double* top_p, const double* uniform,        \
                       int64_t* tokens, double* logprobs, double* at_one, int rows, int size, int threads) {          \
        draw(logits, temperature, top_p, uniform, tokens, logprobs, at_one, rows, size, threads);                     \
    }

extern "C" {
EXPORT(float, float32)
EXPORT(bf16, bfloat16)
#ifdef __AVX512BF16__
void pack_bfloat16(const uint32_t* weight, uint32_t* packed, int pairs, int width, int threads) {
    pack(weight, packed, pairs, width, threads);
}
void multiply_bfloat16(const bf16* x, const bf16* weight, const bf16* bias, bf16* y, int rows, int pairs, int width,
                       int threads) {
    multiply(x, weight, bias, y, rows, pairs, width, threads);
}
void read_bfloat16(const bf16* qkv, const float* cosines, const float* sines, const int64_t* lengths,
                   const int64_t* known, bf16* keys, bf16* values, bf16* out, int prompts, int heads, int groups,
                   int size, int threads) {
    read(qkv, cosines, sines, lengths, known, keys, values, out, prompts, heads, groups, size, threads);
}
#endif
}
