// Browsers start no worker for a page opened from disk. The theme's search then runs in a hidden frame: it knows this
// class by its name.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class IFrameWorker extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      this.inside.reply = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.inside.document.open()
      this.inside.document.write(`<script>postMessage = data => reply(data)</` + `script><script src="${url}"></` + `script>`)
      this.inside.document.close()
      this.ready = new Promise(done => frame.addEventListener("load", done, { once: true }))
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.inside.frameElement.remove()
    }
  }
}
