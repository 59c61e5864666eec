# The operators and the chart on the cluster that `aws/` has made, in a state of its own: a provider
# cannot be told of a cluster by the very apply that makes it.

provider "aws" {
  region = var.region
}

data "aws_eks_cluster" "this" {
  name = var.cluster
}

provider "helm" {
  kubernetes = {
    host                   = data.aws_eks_cluster.this.endpoint
    cluster_ca_certificate = base64decode(data.aws_eks_cluster.this.certificate_authority[0].data)
    exec = {
      api_version = "client.authentication.k8s.io/v1beta1"
      command     = "aws"
      args        = ["eks", "get-token", "--cluster-name", var.cluster, "--region", var.region]
    }
  }
}

provider "kubernetes" {
  host                   = data.aws_eks_cluster.this.endpoint
  cluster_ca_certificate = base64decode(data.aws_eks_cluster.this.certificate_authority[0].data)
  exec {
    api_version = "client.authentication.k8s.io/v1beta1"
    command     = "aws"
    args        = ["eks", "get-token", "--cluster-name", var.cluster, "--region", var.region]
  }
}

locals {
  plan = "${path.module}/../../feature_repo/${var.repository}/plan/helm"
}

# In a state of its own it is not told of which namespace the accounts of the roles are.
data "aws_iam_role" "platform" {
  name = "${var.cluster}-platform"
  lifecycle {
    postcondition {
      condition     = strcontains(self.assume_role_policy, "system:serviceaccount:${var.namespace}:")
      error_message = "namespace: the roles that aws/ has made are for the accounts of another one than ${var.namespace}."
    }
  }
}

# EKS brings the driver (`aws/`) and no class of its own.
resource "kubernetes_storage_class_v1" "gp3" {
  metadata {
    name = "gp3"
  }
  storage_provisioner    = "ebs.csi.aws.com"
  parameters             = { type = "gp3", encrypted = "true" }
  volume_binding_mode    = "WaitForFirstConsumer"
  allow_volume_expansion = true
}

module "platform" {
  source    = "../platform"
  namespace = var.namespace
  storage   = kubernetes_storage_class_v1.gp3.metadata[0].name
  install   = var.install
  values = [
    file("${local.plan}/values.yaml"),
    file("${local.plan}/rules.yaml"),
    file("${local.plan}/dashboards.yaml"),
    file("${path.module}/../../helm/headwater/values-prod.yaml"),
    yamlencode({ api = { otlpEndpoint = local.collector } }),
    file(var.site),
  ]
}
