# A collector that gives the traces of the API and of the jobs to X-Ray, where var.traces asks for
# it. How many there are is said where they begin: api.traced of the chart, callers and producers.

locals {
  collector = var.traces ? "http://otel-collector.monitoring:4318" : ""
}

data "aws_iam_role" "traces" {
  count = var.traces ? 1 : 0
  name  = "${var.cluster}-traces"
}

# In the namespace whose port 4318 the chart's network policy opens.
resource "helm_release" "collector" {
  count            = var.traces ? 1 : 0
  name             = "otel-collector"
  repository       = "https://open-telemetry.github.io/opentelemetry-helm-charts"
  chart            = "opentelemetry-collector"
  version          = "0.170.0"
  namespace        = "monitoring"
  create_namespace = true
  values = [yamlencode({
    fullnameOverride = "otel-collector"
    mode             = "deployment"
    replicaCount     = 2
    # The distribution that has the exporter; its version is the chart's.
    image   = { repository = "ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector-contrib" }
    command = { name = "otelcol-contrib" }
    serviceAccount = {
      name        = "otel-collector"
      annotations = { "eks.amazonaws.com/role-arn" = data.aws_iam_role.traces[0].arn }
    }
    ports = {
      for name in ["otlp", "jaeger-compact", "jaeger-thrift", "jaeger-grpc", "zipkin"] :
      name => { enabled = false }
    }
    resources = {
      requests = { cpu = "100m", memory = "256Mi" }
      limits   = { cpu = "1", memory = "256Mi" }
    }
    securityContext = {
      runAsNonRoot             = true
      allowPrivilegeEscalation = false
      readOnlyRootFilesystem   = true
      capabilities             = { drop = ["ALL"] }
      seccompProfile           = { type = "RuntimeDefault" }
    }
    # In place of the chart's own configuration, which listens to four more protocols.
    alternateConfig = {
      extensions = { health_check = { endpoint = "$${env:MY_POD_IP}:13133" } }
      receivers  = { otlp = { protocols = { http = { endpoint = "$${env:MY_POD_IP}:4318" } } } }
      processors = {
        memory_limiter = { check_interval = "1s", limit_percentage = 80, spike_limit_percentage = 25 }
        batch          = {}
      }
      # Nodes tell pods nothing, the region neither.
      exporters = { awsxray = { region = var.region, local_mode = true } }
      service = {
        extensions = ["health_check"]
        pipelines = {
          traces = {
            receivers  = ["otlp"]
            processors = ["memory_limiter", "batch"]
            exporters  = ["awsxray"]
          }
        }
      }
    }
  })]
}
