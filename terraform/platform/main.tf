# The operators and the chart, on whichever cluster the caller's providers speak to.

# The operators make their roles in it, so it is there before them.
resource "kubernetes_namespace_v1" "this" {
  metadata {
    name   = var.namespace
    labels = { "pod-security.kubernetes.io/enforce" = "restricted" }
  }
}

locals {
  disk = {
    for size in ["1Gi", "50Gi"] : size => {
      volumeClaimTemplate = {
        spec = {
          storageClassName = var.storage
          accessModes      = ["ReadWriteOnce"]
          resources        = { requests = { storage = size } }
        }
      }
    }
  }
}

resource "helm_release" "flink_operator" {
  name             = "flink-kubernetes-operator"
  repository       = "https://archive.apache.org/dist/flink/flink-kubernetes-operator-${var.flink_operator}/"
  chart            = "flink-kubernetes-operator"
  version          = var.flink_operator
  namespace        = "flink-operator"
  create_namespace = true
  values           = [yamlencode({ watchNamespaces = [kubernetes_namespace_v1.this.metadata[0].name], webhook = { create = false } })]
}

resource "helm_release" "strimzi" {
  count            = var.strimzi == null ? 0 : 1
  name             = "strimzi"
  repository       = "oci://quay.io/strimzi-helm"
  chart            = "strimzi-kafka-operator"
  version          = var.strimzi
  namespace        = "strimzi"
  create_namespace = true
  values           = [yamlencode({ watchNamespaces = [kubernetes_namespace_v1.this.metadata[0].name] })]
}

resource "helm_release" "prometheus" {
  count            = var.prometheus == null ? 0 : 1
  name             = "prometheus"
  repository       = "https://prometheus-community.github.io/helm-charts"
  chart            = "kube-prometheus-stack"
  version          = var.prometheus
  namespace        = "monitoring"
  create_namespace = true
  values = [yamlencode({
    # The error budgets are of 30 days.
    prometheus = {
      prometheusSpec = merge({ retention = "35d" }, var.storage == null ? {} : { storageSpec = local.disk["50Gi"] })
    }
    alertmanager = {
      alertmanagerSpec = var.storage == null ? {} : { storage = local.disk["1Gi"] }
    }
  })]
}

resource "helm_release" "headwater" {
  count      = var.install ? 1 : 0
  name       = "headwater"
  chart      = "${path.module}/../../helm/headwater"
  namespace  = kubernetes_namespace_v1.this.metadata[0].name
  values     = var.values
  atomic     = true
  timeout    = 900
  depends_on = [helm_release.flink_operator, helm_release.strimzi, helm_release.prometheus]
}
