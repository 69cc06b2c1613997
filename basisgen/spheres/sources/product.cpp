// The products of two fields over a table of coefficients, for lanes of channels, samples and voxels at a time:
//
//     forward    out[o] = sum over entries of  c x[a] y[b]                       entries of row o: pointer[o]..pointer[o+1]
//     backward   grad_x[a] += c grad_out[o] y[b],   grad_y[b] += c grad_out[o] x[a]
//
// or, projected, where fragments t of the products are summed to fragments t' with weights w that all channels share:
//
//     forward    result[t', m] += w[t', t] out[t, m],    each out[t, m] as soon as it is made
//     backward   grad_out[t, m] = sum over t' of  w[t', t] grad[t', m],    grad_w[t', t] = sum of grad[t', m] out[t, m]
//
// A field is (batch, fragment, channel, component, site): fragments of dims[f] components in order, rows counted through
// all of them. Lanes are (batch, channel, site) in order. A tile of lanes is turned into (row, lane) and stays in cache.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

constexpr int BYTES = 64;    // of one vector
constexpr int VECTORS = 2;   // of one row of a tile

template <typename T> struct Lanes {
    typedef T Vector __attribute__((vector_size(BYTES), aligned(BYTES)));
    static constexpr int width = VECTORS * BYTES / sizeof(T);
    Vector part[VECTORS];
};

template <typename T> struct Entries {
    const int32_t* pointer;  // (row of out + 1)
    const uint16_t* a;
    const uint16_t* b;
    const T* c;
};

struct Field {
    const int32_t* dims;  // of each fragment
    int32_t fragments;
    int64_t rows;  // their sum
};

struct Shape {
    int64_t batch, channels, sites;
};

template <typename T> struct Buffer {
    Lanes<T>* rows;
    explicit Buffer(int64_t n) : rows(static_cast<Lanes<T>*>(std::aligned_alloc(BYTES, n * sizeof(Lanes<T>)))) {}
    ~Buffer() { std::free(rows); }
    Buffer(const Buffer&) = delete;
    T* row(int64_t r) { return reinterpret_cast<T*>(rows + r); }
};

// Lanes of one tile that lie side by side: channels of one sample where there is one site, else sites of one channel.
struct Run {
    int64_t batch, channel, site;
    int first, count;
};

template <typename T> struct Tile {
    static constexpr int width = Lanes<T>::width;
    Run runs[width];
    int number = 0, count;
    Tile(int64_t lane, const Shape& s) {
        const int64_t left = s.batch * s.channels * s.sites - lane, most = s.sites == 1 ? s.channels : s.sites;
        count = left < width ? static_cast<int>(left) : width;
        int64_t inner = lane % most, outer = lane / most;
        for (int first = 0; first < count; inner = 0, ++outer) {
            const int64_t rest = most - inner, open = count - first;
            const int n = static_cast<int>(rest < open ? rest : open);
            if (s.sites == 1) runs[number++] = {outer, inner, 0, first, n};
            else runs[number++] = {outer / s.channels, outer % s.channels, inner, first, n};
            first += n;
        }
    }
};

int64_t place(const Run& r, const Field& f, const Shape& s, int64_t start, int32_t dim) {
    return ((r.batch * f.rows + start) * s.channels + r.channel * dim) * s.sites + r.site;
}

// Squares of SIDE x SIDE numbers are transposed in registers, where the compiler has shuffles.
constexpr int SIDE = 8;
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES
#endif
#endif

template <typename T> void transpose_square(const T* from, int64_t from_step, T* to, int64_t to_step) {
#ifdef SHUFFLES
    typedef T Row __attribute__((vector_size(SIDE * sizeof(T))));
    Row a[SIDE], b[SIDE];
    for (int i = 0; i < SIDE; ++i) std::memcpy(&a[i], from + i * from_step, sizeof(Row));
    // three times: rows i and i + 4 are interleaved to rows 2 i and 2 i + 1, which turns the bits of (row, column) by one
#define INTERLEAVE(X, Y) \
    for (int i = 0; i < SIDE / 2; ++i) { \
        Y[2 * i] = __builtin_shufflevector(X[i], X[i + SIDE / 2], 0, 8, 1, 9, 2, 10, 3, 11); \
        Y[2 * i + 1] = __builtin_shufflevector(X[i], X[i + SIDE / 2], 4, 12, 5, 13, 6, 14, 7, 15); \
    }
    INTERLEAVE(a, b)
    INTERLEAVE(b, a)
    INTERLEAVE(a, b)
#undef INTERLEAVE
    for (int i = 0; i < SIDE; ++i) std::memcpy(to + i * to_step, &b[i], sizeof(Row));
#else
    for (int i = 0; i < SIDE; ++i)
        for (int j = 0; j < SIDE; ++j) to[j * to_step + i] = from[i * from_step + j];
#endif
}

// (row, column) -> (column, row): squares first, the last ones overlapping those before
template <typename T> void transpose(const T* from, int64_t rows, int64_t columns, int64_t from_step, T* to, int64_t to_step) {
    if (rows < SIDE || columns < SIDE) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) to[j * to_step + i] = from[i * from_step + j];
        return;
    }
    for (int64_t i = 0; i < rows; i += SIDE) {
        const int64_t r = i + SIDE <= rows ? i : rows - SIDE;
        for (int64_t j = 0; j < columns; j += SIDE) {
            const int64_t c = j + SIDE <= columns ? j : columns - SIDE;
            transpose_square(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
        }
    }
}

// (lane, component) -> (component, lane) and back; dimensions of low degrees are known to the compiler
template <typename T, int D> void to_rows(const T* from, T* rows, int count, int32_t dim) {
    const int32_t d = D ? D : dim;
    if (d >= SIDE) return transpose(from, count, d, d, rows, Tile<T>::width);
    for (int w = 0; w < count; ++w)
        for (int32_t m = 0; m < d; ++m) rows[m * Tile<T>::width + w] = from[w * d + m];
}

template <typename T, int D> void of_rows(T* to, const T* rows, int count, int32_t dim) {
    const int32_t d = D ? D : dim;
    if (d >= SIDE) return transpose(rows, d, count, Tile<T>::width, to, d);
    for (int w = 0; w < count; ++w)
        for (int32_t m = 0; m < d; ++m) to[w * d + m] = rows[m * Tile<T>::width + w];
}

#define BY_DIMENSION(FUNCTION) \
    switch (dim) { \
    case 1: return FUNCTION<T, 1>; \
    case 3: return FUNCTION<T, 3>; \
    case 5: return FUNCTION<T, 5>; \
    case 7: return FUNCTION<T, 7>; \
    case 9: return FUNCTION<T, 9>; \
    case 11: return FUNCTION<T, 11>; \
    case 13: return FUNCTION<T, 13>; \
    case 15: return FUNCTION<T, 15>; \
    default: return FUNCTION<T, 0>; \
    }

template <typename T> auto rows_of(int32_t dim) -> void (*)(const T*, T*, int, int32_t) { BY_DIMENSION(to_rows) }
template <typename T> auto lanes_of(int32_t dim) -> void (*)(T*, const T*, int, int32_t) { BY_DIMENSION(of_rows) }

template <typename T>
void load_fragment(const T* from, const Field& f, const Shape& s, const Tile<T>& tile, int64_t start, int32_t dim, Lanes<T>* to) {
    T* rows = reinterpret_cast<T*>(to);
    if (tile.count < Tile<T>::width) std::memset(rows, 0, dim * sizeof(Lanes<T>));
    const auto transpose = rows_of<T>(dim);
    for (int i = 0; i < tile.number; ++i) {
        const Run& r = tile.runs[i];
        const T* at = from + place(r, f, s, start, dim);
        if (s.sites == 1) {
            transpose(at, rows + r.first, r.count, dim);
            continue;
        }
        for (int32_t m = 0; m < dim; ++m)
            for (int w = 0; w < r.count; ++w) rows[m * Tile<T>::width + r.first + w] = at[m * s.sites + w];
    }
}

template <typename T>
void store_fragment(T* to, const Field& f, const Shape& s, const Tile<T>& tile, int64_t start, int32_t dim, const Lanes<T>* from) {
    const T* rows = reinterpret_cast<const T*>(from);
    const auto transpose = lanes_of<T>(dim);
    for (int i = 0; i < tile.number; ++i) {
        const Run& r = tile.runs[i];
        T* at = to + place(r, f, s, start, dim);
        if (s.sites == 1) {
            transpose(at, rows + r.first, r.count, dim);
            continue;
        }
        for (int32_t m = 0; m < dim; ++m)
            for (int w = 0; w < r.count; ++w) at[m * s.sites + w] = rows[m * Tile<T>::width + r.first + w];
    }
}

template <typename T> void load(const T* from, const Field& f, const Shape& s, const Tile<T>& tile, Lanes<T>* to) {
    int64_t start = 0;
    for (int32_t i = 0; i < f.fragments; start += f.dims[i++]) load_fragment(from, f, s, tile, start, f.dims[i], to + start);
}

template <typename T> void store(T* to, const Field& f, const Shape& s, const Tile<T>& tile, const Lanes<T>* from) {
    int64_t start = 0;
    for (int32_t i = 0; i < f.fragments; start += f.dims[i++]) store_fragment(to, f, s, tile, start, f.dims[i], from + start);
}

int32_t widest(const Field& f) {
    int32_t widest = 1;
    for (int32_t i = 0; i < f.fragments; ++i) widest = f.dims[i] > widest ? f.dims[i] : widest;
    return widest;
}

template <typename T>
void forward(const T* x, const T* y, T* out, const Field& fx, const Field& fy, const Field& fo, const Entries<T>& e, const Shape& s, int threads) {
    const int64_t lanes = s.batch * s.channels * s.sites, width = Lanes<T>::width, tiles = (lanes + width - 1) / width;
    const bool square = x == y;
#pragma omp parallel num_threads(threads)
    {
        Buffer<T> bx(fx.rows), by(square ? 1 : fy.rows), block(widest(fo));
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tiles; ++t) {
            const Tile<T> tile(t * width, s);
            load(x, fx, s, tile, bx.rows);
            if (!square) load(y, fy, s, tile, by.rows);
            const Lanes<T>*px = bx.rows, *py = square ? bx.rows : by.rows;
            int64_t start = 0;
            for (int32_t f = 0; f < fo.fragments; start += fo.dims[f++]) {
                for (int32_t m = 0; m < fo.dims[f]; ++m) {
                    Lanes<T> sum = {};
                    for (int32_t i = e.pointer[start + m]; i < e.pointer[start + m + 1]; ++i)
                        for (int v = 0; v < VECTORS; ++v) sum.part[v] += e.c[i] * px[e.a[i]].part[v] * py[e.b[i]].part[v];
                    block.rows[m] = sum;
                }
                store_fragment(out, fo, s, tile, start, fo.dims[f], block.rows);
            }
        }
    }
}

template <typename T>
void backward(const T* g, const T* x, const T* y, T* gx, T* gy, const Field& fx, const Field& fy, const Field& fo, const Entries<T>& e, const Shape& s, int threads) {
    const int64_t lanes = s.batch * s.channels * s.sites, width = Lanes<T>::width, tiles = (lanes + width - 1) / width;
    const bool square = gx == gy;  // both gradients are of one field: their sum
#pragma omp parallel num_threads(threads)
    {
        Buffer<T> bx(fx.rows), by(square ? 1 : fy.rows), bgx(fx.rows), bgy(square ? 1 : fy.rows), block(widest(fo));
        Lanes<T>*px = bx.rows, *py = square ? bx.rows : by.rows, *pgx = bgx.rows, *pgy = square ? bgx.rows : bgy.rows;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tiles; ++t) {
            const Tile<T> tile(t * width, s);
            load(x, fx, s, tile, px);
            std::memset(pgx, 0, fx.rows * sizeof(Lanes<T>));
            if (!square) {
                load(y, fy, s, tile, py);
                std::memset(pgy, 0, fy.rows * sizeof(Lanes<T>));
            }
            int64_t start = 0;
            for (int32_t f = 0; f < fo.fragments; start += fo.dims[f++]) {
                load_fragment(g, fo, s, tile, start, fo.dims[f], block.rows);
                for (int32_t m = 0; m < fo.dims[f]; ++m) {
                    const Lanes<T> go = block.rows[m];
                    for (int32_t i = e.pointer[start + m]; i < e.pointer[start + m + 1]; ++i) {
                        const int32_t a = e.a[i], b = e.b[i];
                        for (int v = 0; v < VECTORS; ++v) {
                            const auto cg = e.c[i] * go.part[v];
                            pgx[a].part[v] += cg * py[b].part[v];
                            pgy[b].part[v] += cg * px[a].part[v];
                        }
                    }
                }
            }
            store(gx, fx, s, tile, pgx);
            if (!square) store(gy, fy, s, tile, pgy);
        }
    }
}

// Of each fragment t of the products: first row of the result, how many fragments t', place of w[0, t], step in t'.
struct Projection {
    Field out;
    const int32_t *first, *count, *column, *stride;
    int64_t weights;
};

int thread_number() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

template <typename T>
void forward_projected(const T* x, const T* y, const T* w, T* out, const Field& fx, const Field& fy, const Field& fo, const Projection& p, const Entries<T>& e, const Shape& s, int threads) {
    const int64_t lanes = s.batch * s.channels * s.sites, width = Lanes<T>::width, tiles = (lanes + width - 1) / width;
    const bool square = x == y;
#pragma omp parallel num_threads(threads)
    {
        Buffer<T> bx(fx.rows), by(square ? 1 : fy.rows), block(widest(fo)), result(p.out.rows);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tiles; ++t) {
            const Tile<T> tile(t * width, s);
            load(x, fx, s, tile, bx.rows);
            if (!square) load(y, fy, s, tile, by.rows);
            const Lanes<T>*px = bx.rows, *py = square ? bx.rows : by.rows;
            std::memset(static_cast<void*>(result.rows), 0, p.out.rows * sizeof(Lanes<T>));
            int64_t start = 0;
            for (int32_t f = 0; f < fo.fragments; start += fo.dims[f++]) {
                if (!p.count[f]) continue;
                const int32_t dim = fo.dims[f];
                for (int32_t m = 0; m < dim; ++m) {
                    Lanes<T> sum = {};
                    for (int32_t i = e.pointer[start + m]; i < e.pointer[start + m + 1]; ++i)
                        for (int v = 0; v < VECTORS; ++v) sum.part[v] += e.c[i] * px[e.a[i]].part[v] * py[e.b[i]].part[v];
                    block.rows[m] = sum;
                }
                Lanes<T>* to = result.rows + p.first[f];
                for (int32_t u = 0; u < p.count[f]; ++u, to += dim) {
                    const T weight = w[p.column[f] + int64_t(u) * p.stride[f]];
                    for (int32_t m = 0; m < dim; ++m)
                        for (int v = 0; v < VECTORS; ++v) to[m].part[v] += weight * block.rows[m].part[v];
                }
            }
            store(out, p.out, s, tile, result.rows);
        }
    }
}

template <typename T> double total(const Lanes<T>& lanes) {
    double sum = 0;
    for (int v = 0; v < VECTORS; ++v)
        for (int i = 0; i < int(BYTES / sizeof(T)); ++i) sum += lanes.part[v][i];
    return sum;
}

template <typename T>
void backward_projected(const T* g, const T* x, const T* y, const T* w, T* gx, T* gy, T* gw, const Field& fx, const Field& fy, const Field& fo, const Projection& p, const Entries<T>& e, const Shape& s, int threads) {
    const int64_t lanes = s.batch * s.channels * s.sites, width = Lanes<T>::width, tiles = (lanes + width - 1) / width;
    const bool square = gx == gy;  // both gradients are of one field: their sum
    std::vector<std::vector<double>> of_threads(threads);
#pragma omp parallel num_threads(threads)
    {
        std::vector<double>& mine = of_threads[thread_number()];
        mine.assign(p.weights, 0.0);
        Buffer<T> bx(fx.rows), by(square ? 1 : fy.rows), bgx(fx.rows), bgy(square ? 1 : fy.rows);
        Buffer<T> gradient(p.out.rows), back(widest(fo)), block(widest(fo));
        Lanes<T>*px = bx.rows, *py = square ? bx.rows : by.rows, *pgx = bgx.rows, *pgy = square ? bgx.rows : bgy.rows;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tiles; ++t) {
            const Tile<T> tile(t * width, s);
            load(x, fx, s, tile, px);
            load(g, p.out, s, tile, gradient.rows);
            std::memset(static_cast<void*>(pgx), 0, fx.rows * sizeof(Lanes<T>));
            if (!square) {
                load(y, fy, s, tile, py);
                std::memset(static_cast<void*>(pgy), 0, fy.rows * sizeof(Lanes<T>));
            }
            int64_t start = 0;
            for (int32_t f = 0; f < fo.fragments; start += fo.dims[f++]) {
                if (!p.count[f]) continue;
                const int32_t dim = fo.dims[f];
                const Lanes<T>* from = gradient.rows + p.first[f];
                for (int32_t m = 0; m < dim; ++m) {
                    Lanes<T> go = {}, sum = {};
                    for (int32_t u = 0; u < p.count[f]; ++u) {
                        const T weight = w[p.column[f] + int64_t(u) * p.stride[f]];
                        for (int v = 0; v < VECTORS; ++v) go.part[v] += weight * from[u * dim + m].part[v];
                    }
                    for (int32_t i = e.pointer[start + m]; i < e.pointer[start + m + 1]; ++i) {
                        const int32_t a = e.a[i], b = e.b[i];
                        for (int v = 0; v < VECTORS; ++v) {
                            const auto cx = e.c[i] * px[a].part[v], cg = e.c[i] * go.part[v];
                            sum.part[v] += cx * py[b].part[v];
                            pgx[a].part[v] += cg * py[b].part[v];
                            pgy[b].part[v] += go.part[v] * cx;
                        }
                    }
                    block.rows[m] = sum;
                }
                for (int32_t u = 0; u < p.count[f]; ++u) {
                    Lanes<T> dot = {};
                    for (int32_t m = 0; m < dim; ++m)
                        for (int v = 0; v < VECTORS; ++v) dot.part[v] += from[u * dim + m].part[v] * block.rows[m].part[v];
                    mine[p.column[f] + int64_t(u) * p.stride[f]] += total<T>(dot);
                }
            }
            store(gx, fx, s, tile, pgx);
            if (!square) store(gy, fy, s, tile, pgy);
        }
    }
    for (int64_t i = 0; i < p.weights; ++i) {
        double sum = 0;
        for (const auto& part : of_threads) sum += part.empty() ? 0.0 : part[i];
        gw[i] = static_cast<T>(sum);
    }
}

// What stays the same from call to call, as whole numbers in order: fields, table, channels, and the projection.
template <typename T> struct Constants {
    Field x, y, out;
    Entries<T> entries;
    int64_t channels;
    const int64_t* projection;
    explicit Constants(const int64_t* k)
        : x(field(k)), y(field(k + 3)), out(field(k + 6)),
          entries{at<int32_t>(k[9]), at<uint16_t>(k[10]), at<uint16_t>(k[11]), at<T>(k[12])}, channels(k[13]), projection(k + 14) {}
    Projection projected() const {
        const int64_t* k = projection;
        return {field(k), at<int32_t>(k[3]), at<int32_t>(k[4]), at<int32_t>(k[5]), at<int32_t>(k[6]), k[7]};
    }
    template <typename N> static const N* at(int64_t address) { return reinterpret_cast<const N*>(address); }
    static Field field(const int64_t* k) { return {at<int32_t>(k[0]), static_cast<int32_t>(k[1]), k[2]}; }
};

}  // namespace

#define REST const int64_t *constants, int64_t batch, int64_t sites, int32_t threads
#define PRODUCT k.x, k.y, k.out
#define SHAPE k.entries, {batch, k.channels, sites}, threads
#define FUNCTIONS(T, NAME) \
    void forward_##NAME(const T* x, const T* y, T* out, REST) { \
        const Constants<T> k(constants); \
        forward<T>(x, y, out, PRODUCT, SHAPE); \
    } \
    void backward_##NAME(const T* g, const T* x, const T* y, T* gx, T* gy, REST) { \
        const Constants<T> k(constants); \
        backward<T>(g, x, y, gx, gy, PRODUCT, SHAPE); \
    } \
    void forward_projected_##NAME(const T* x, const T* y, const T* w, T* out, REST) { \
        const Constants<T> k(constants); \
        forward_projected<T>(x, y, w, out, PRODUCT, k.projected(), SHAPE); \
    } \
    void backward_projected_##NAME(const T* g, const T* x, const T* y, const T* w, T* gx, T* gy, T* gw, REST) { \
        const Constants<T> k(constants); \
        backward_projected<T>(g, x, y, w, gx, gy, gw, PRODUCT, k.projected(), SHAPE); \
    }

extern "C" {
FUNCTIONS(float, float32)
FUNCTIONS(double, float64)
}
