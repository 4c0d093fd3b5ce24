// Threads that compute one thing together: every one runs the same function, and they wait for each
// other at barriers. Within a run they wait spinning, since what is between two barriers takes
// microseconds; between runs they spin a little, and then sleep.

#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace lucid {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    // `work(thread)` on every thread, this one being 0; returns when all are done
    void run(const std::function<void(int)>& work);

    // Within `work`: nobody goes on before all have come
    void barrier();

  private:
    void serve(int thread);

    int threads_;
    std::atomic<int> waiting_{0};
    std::atomic<unsigned> round_{0};  // of the barrier
    std::atomic<unsigned> job_{0};    // runs so far
    std::atomic<int> sleeping_{0};
    std::atomic<bool> ending_{false};
    const std::function<void(int)>* work_ = nullptr;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> others_;
};

}  // namespace lucid
