// gRPC's callback threads.
#pragma once

namespace cyllm {

// Keeps gRPC's callback threads until the process ends; call it before the first channel or server is made.
//
// gRPC 1.51 ends them with the last channel or server that uses them, and waits for them; when that last one
// is let go on one of the threads themselves (in a reactor's OnDone), the thread waits for itself, and its
// queue is freed twice.
void KeepGrpcThreads();

}  // namespace cyllm
