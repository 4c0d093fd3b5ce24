#include "pool.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lucid {
namespace {

constexpr int SPINS = 4000;                          // before a core is offered to somebody else
constexpr auto AWAKE = std::chrono::milliseconds(2); // after a run; the next token comes before

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

}  // namespace

Pool::Pool(int threads) : threads_(threads) {
    for (int thread = 1; thread < threads; ++thread) others_.emplace_back([this, thread] { serve(thread); });
}

Pool::~Pool() {
    {
        std::lock_guard lock(mutex_);
        ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& other : others_) other.join();
}

void Pool::run(const std::function<void(int)>& work) {
    if (threads_ == 1) return work(0);
    work_ = &work;
    {
        std::lock_guard lock(mutex_);  // nobody falls asleep between looking and waiting
        job_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load()) wake_.notify_all();
    work(0);
    barrier();
}

void Pool::barrier() {
    if (threads_ == 1) return;
    unsigned round = round_.load(std::memory_order_acquire);
    if (waiting_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
        waiting_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
        pause();
        if (spins > SPINS) std::this_thread::yield();
    }
}

void Pool::serve(int thread) {
    unsigned done = 0;
    while (true) {
        auto until = std::chrono::steady_clock::now() + AWAKE;
        int spins = 0;
        while (job_.load(std::memory_order_acquire) == done && !ending_) {
            pause();
            if (++spins % 256 || std::chrono::steady_clock::now() < until) continue;
            std::unique_lock lock(mutex_);
            ++sleeping_;
            wake_.wait(lock, [&] { return job_.load() != done || ending_; });
            --sleeping_;
        }
        if (ending_) return;
        ++done;
        (*work_)(thread);
        barrier();
    }
}

}  // namespace lucid
